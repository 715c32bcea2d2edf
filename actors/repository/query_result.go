package repository

// State is what became of a packet in a group.
type State uint8

// The states.
const (
	StateUnknown State = iota // the repository gave out no such number
	StateWaiting              // or leased
	StateDone
	StateDead
)

// Standing is what became of a packet in a group.
type Standing struct {
	State State
	Rank  Rank // of what waits
	Seq   Seq  // whose it is: another one where the packet was redriven
	Dead  DeadLetter
}

// maxRedriven bounds how many redriven packets of a lane are looked at for one.
const maxRedriven = 1024

// Standing says what became of a packet in a group that the partition knows.
func (m *Machine) Standing(id GroupID, repo []byte, seq Seq) (x Standing, err error) {
	g := m.group(id)
	if g == nil || seq == 0 {
		return x, nil
	}
	r, err := m.loadRepo(repo)
	if err != nil || seq > r.head {
		return x, err
	}
	defer m.repos.trim()
	dead, ok, err := m.Dead(id, repo, seq)
	if err != nil || ok {
		return Standing{State: StateDead, Seq: seq, Dead: dead}, err
	}
	l, err := m.loadLane(g, r)
	if err != nil {
		return x, err
	}
	x = Standing{State: StateDone, Seq: seq}
	for rank := range Rank(Ranks) {
		if l.again[rank] > 0 {
			if found, err := m.standsAgain(g, r, rank, &x); err != nil || found {
				return x, err
			}
		}
		if seq <= l.cursors[rank] || r.ranks[rank].count == 0 {
			continue
		}
		h, err := m.itemAfter(r, nil, rank, seq-1)
		if err != nil {
			return x, err
		}
		if h.item.seq == seq {
			x.State, x.Rank = StateWaiting, rank
			return x, nil
		}
	}
	return x, nil
}

// standsAgain says whether x is one of a lane's redriven packets of a priority, or was
// before it was redriven.
func (m *Machine) standsAgain(g *group, r *repo, rank Rank, x *Standing) (found bool, err error) {
	list, err := m.redriven(g, r, rank, 0, maxRedriven)
	if err != nil {
		return false, err
	}
	for i := range list {
		if list[i].seq == x.Seq || list[i].of == x.Seq {
			x.State, x.Rank, x.Seq = StateWaiting, rank, list[i].seq
			return true, nil
		}
	}
	return false, nil
}
