package crash

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

// ledger is what the outside was told: receipts and settlements.
type ledger struct {
	mu      sync.Mutex
	acked   []receipt
	settled map[string]repository.Seq // by repository: everything up to it
}

type receipt struct {
	repo, id string
	position uint64
	seq      repository.Seq
	content  []byte
}

// copy is what was told up to now.
func (l *ledger) copy() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &ledger{acked: l.acked[:len(l.acked):len(l.acked)], settled: map[string]repository.Seq{}}
	for k, v := range l.settled {
		c.settled[k] = v
	}
	return c
}

// outage is a disk after a power loss, and what had been told before it.
type outage struct {
	at    int
	disk  *vfs.MemFS
	known *ledger
}

// power cuts the power, in a copy, before chosen syncs.
type power struct {
	mem    *vfs.MemFS
	ledger *ledger

	mu      sync.Mutex
	rng     *rand.Rand
	syncs   int
	every   int
	outages []outage
}

// MaybeError implements errorfs.Injector: it injects nothing, it only looks.
func (p *power) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpRename, errorfs.OpRemove:
	default:
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.syncs++
	if p.rng.IntN(p.every) != 0 {
		return nil
	}
	known := p.ledger.copy() // before the copy of the disk: all of it must be there
	p.outages = append(p.outages, outage{p.syncs, p.mem.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: []int{0, 10, 50, 90, 100}[p.rng.IntN(5)], RNG: p.rng,
	}), known})
	return nil
}

func (p *power) String() string { return "power" }

// lockedFS keeps a copy of the disk from being taken within ReuseForWrite: MemFS
// would block for ever, as it takes a lock there twice for reading.
type lockedFS struct {
	vfs.FS
	power *power
}

func (f lockedFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f.power.mu.Lock()
	defer f.power.mu.Unlock()
	return f.FS.ReuseForWrite(from, to, c)
}

// sender publishes to one repository under one producer, some packets with an id,
// and resends a part of it.
type sender struct {
	s      *stack
	l      *ledger
	repo   string
	rng    *rand.Rand
	window chan struct{}
	wait   sync.WaitGroup

	mu   sync.Mutex
	sent map[uint64]receipt // by index in the stream
	next uint64
}

func (x *sender) Results(rs []actors.PublishResult) {
	for i := range rs {
		r := &rs[i]
		x.mu.Lock()
		sent := x.sent[r.Index]
		delete(x.sent, r.Index)
		x.mu.Unlock()
		switch {
		case r.Refusal != nil:
			x.s.t.Errorf("%s position %d: %v", x.repo, sent.position, r.Refusal)
		default:
			sent.seq = r.Seq
			x.l.mu.Lock()
			x.l.acked = append(x.l.acked, sent)
			x.l.mu.Unlock()
		}
		<-x.window
		x.wait.Done()
	}
}

// frame is packets as a client encodes them.
func frame(list []receipt) []wire.Packet {
	var out []wire.Packet
	for _, r := range list {
		b := wire.AppendPacket(nil, &wire.PacketFields{
			RepoID: r.repo, Content: r.content, PacketID: r.id, Producer: "p-" + r.repo, Epoch: 1, Sequence: r.position,
		})
		var p wire.Packet
		if err := p.Parse(b); err != nil {
			panic(err)
		}
		out = append(out, p)
	}
	return out
}

func (x *sender) run(packets int) {
	position := uint64(0)
	for position < uint64(packets) {
		var list []receipt
		x.mu.Lock()
		first := x.next
		for range 1 + x.rng.IntN(6) {
			position++
			r := receipt{repo: x.repo, position: position, content: make([]byte, x.rng.IntN(2000))}
			fill(x.rng, r.content)
			if x.rng.IntN(2) == 0 {
				r.id = fmt.Sprintf("id-%d", position)
			}
			x.sent[x.next] = r
			x.next++
			list = append(list, r)
		}
		x.mu.Unlock()
		for range list {
			x.window <- struct{}{}
			x.wait.Add(1)
		}
		x.s.relay.Offer(&actors.Frame{Packets: frame(list), First: first, Bytes: 1}, x)
	}
	x.wait.Wait()
}

func fill(rng *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
}

// work grants and settles until stop is closed.
func work(s *stack, l *ledger, repos []string, rng *rand.Rand, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		repo := repos[rng.IntN(len(repos))]
		p := s.partition(repo)
		type answer struct {
			token repository.Token
			last  repository.Seq
		}
		granted := make(chan answer, 1)
		p.Grant(&repository.Grant{Group: 1, Repo: []byte(repo), Session: []byte("w"), MaxItems: 8, MaxBytes: 1 << 20, LeaseMs: 1000},
			func(res *repository.GrantResult, err error) {
				a := answer{}
				if err == nil && res.Code == repository.OK {
					a = answer{res.Token, res.Items[len(res.Items)-1].Seq}
				}
				granted <- a
			})
		g := <-granted
		if g.token == 0 {
			continue
		}
		settled := make(chan bool, 1)
		p.Settle(&repository.Settle{Group: 1, Repo: []byte(repo), Token: g.token, Through: g.last}, func(o repository.SettleOutcome, err error) {
			settled <- err == nil && o.Code == repository.OK
		})
		if <-settled {
			l.mu.Lock()
			l.settled[repo] = max(l.settled[repo], g.last)
			l.mu.Unlock()
		}
	}
}

// TestPowerLoss cuts the power at many syncs of one run, each time with another
// part of what was not synced, and starts again from each of these disks.
func TestPowerLoss(t *testing.T) {
	seeds, packets := 3, 1500
	if testing.Short() {
		seeds, packets = 1, 400
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { powerLoss(t, uint64(seed), packets) })
	}
}

func powerLoss(t *testing.T, seed uint64, packets int) {
	repos := []string{"acme/api", "acme/web", "other/one", "other/two", "lonely"}
	clock := &atomic.Int64{}
	clock.Store(1_700_000_000_000)
	l := &ledger{settled: map[string]repository.Seq{}}
	mem := vfs.NewCrashableMem()
	p := &power{mem: mem, ledger: l, rng: rand.New(rand.NewPCG(seed, 7)), every: 40}
	s := open(t, lockedFS{errorfs.Wrap(mem, p), p}, clock)
	for _, part := range s.relay.Partitions() {
		s.command(part, func(b *repository.EntryBuilder) {
			c := repository.DefaultConfig()
			b.AddConfigure(&c)
			g := repository.DefaultGroupConfig("g")
			g.ID = 1
			b.AddSetGroup(&g)
		})
		s.command(part, func(b *repository.EntryBuilder) { b.AddBackfill(1, 100) })
	}
	stop := make(chan struct{})
	var senders, workers sync.WaitGroup
	for i, repo := range repos {
		x := &sender{s: s, l: l, repo: repo, rng: rand.New(rand.NewPCG(seed, uint64(i))), window: make(chan struct{}, 64), sent: map[uint64]receipt{}}
		senders.Go(func() { x.run(packets) })
	}
	workers.Go(func() { work(s, l, repos[:3], rand.New(rand.NewPCG(seed, 99)), stop) }) // the others pile up, and are spilled
	senders.Wait()
	close(stop)
	workers.Wait()
	s.close()
	t.Logf("%d syncs, %d outages, %d receipts", p.syncs, len(p.outages), len(l.acked))
	if len(p.outages) < 3 || len(l.acked) < packets*len(repos) {
		t.Fatalf("%d outages and %d receipts of %d: the test shows too little", len(p.outages), len(l.acked), packets*len(repos))
	}
	const most = 25
	for i, o := range p.outages {
		if len(p.outages) > most && i%(len(p.outages)/most+1) != 0 {
			continue
		}
		check(t, o, clock)
		if t.Failed() {
			t.Fatalf("after the power loss before sync %d", o.at)
		}
	}
}

// check starts from a disk after a power loss: everything that was told is there,
// a resend gets the first number, and dedup records and packets agree.
func check(t *testing.T, o outage, clock *atomic.Int64) {
	t.Helper()
	s := open(t, o.disk, clock)
	defer s.close()
	for i := range o.known.acked {
		checkReceipt(t, s, o.known, &o.known.acked[i])
	}
	for repo, seq := range o.known.settled {
		lane := lane(t, s, repo)
		if lane.Cursors[repository.RankNormal] < seq {
			t.Errorf("%s: settled through %d, and now the cursor is %d", repo, seq, lane.Cursors[repository.RankNormal])
		}
	}
	checkStep(t, s, o)
}

func lane(t *testing.T, s *stack, repo string) (info repository.LaneInfo) {
	t.Helper()
	err := s.partition(repo).View(func(m *repository.Machine) (err error) {
		info, err = m.Lane(1, []byte(repo))
		return err
	})
	if err != nil {
		t.Fatalf("lane: %v", err)
	}
	return info
}

func checkReceipt(t *testing.T, s *stack, known *ledger, r *receipt) {
	t.Helper()
	p := s.partition(r.repo)
	var items []repository.StoredItem
	cursor := lane(t, s, r.repo).Cursors[repository.RankNormal]
	err := p.View(func(m *repository.Machine) error {
		seq, code, err := m.Receipt([]byte(r.repo), []byte("p-"+r.repo), 1, r.position)
		if err != nil {
			return err
		}
		if code == repository.Duplicate && seq != r.seq || code != repository.Duplicate && code != repository.TooOld {
			t.Errorf("%s position %d: number %d, code %d; acknowledged as %d", r.repo, r.position, seq, code, r.seq)
		}
		if r.id != "" {
			if seq, _, found, err := m.FindID([]byte(r.repo), []byte(r.id)); err != nil || !found || seq != r.seq {
				t.Errorf("%s id %s: number %d, found %v, %v; acknowledged as %d", r.repo, r.id, seq, found, err, r.seq)
			}
		}
		items, err = m.Packets([]byte(r.repo), r.seq, 1, nil)
		return err
	})
	if err != nil {
		t.Fatalf("look up %s/%d: %v", r.repo, r.seq, err)
	}
	if r.seq <= cursor {
		return // settled: it may be gone
	}
	if len(items) == 0 || items[0].Seq != r.seq {
		t.Errorf("%s/%d was acknowledged and is lost (cursor %d)", r.repo, r.seq, cursor)
		return
	}
	b, err := p.Payload(items[0].Ref, nil)
	if err != nil {
		t.Errorf("%s/%d was acknowledged and can't be read: %v", r.repo, r.seq, err)
		return
	}
	var packet wire.Packet
	if err := packet.Parse(b); err != nil || !bytes.Equal(packet.Content, r.content) {
		t.Errorf("%s/%d has another content: %v", r.repo, r.seq, err)
	}
}

// checkStep compares every packet that is there with its dedup record: a record
// without its packet would swallow a resend, a packet without its record double it.
func checkStep(t *testing.T, s *stack, o outage) {
	t.Helper()
	seen := map[string]bool{}
	for i := range o.known.acked {
		seen[o.known.acked[i].repo] = true
	}
	for repo := range seen {
		p := s.partition(repo)
		var items []repository.StoredItem
		var last uint64
		var head repository.Seq
		if err := p.View(func(m *repository.Machine) (err error) {
			if _, last, _, err = m.Position([]byte(repo), []byte("p-"+repo)); err != nil {
				return err
			}
			info, _, err := m.Repo([]byte(repo))
			if head = info.Head; err != nil {
				return err
			}
			items, err = m.Packets([]byte(repo), 0, 1<<20, nil)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if uint64(head) != last {
			t.Errorf("%s: %d packets were numbered, and the producer's position is %d", repo, head, last)
		}
		for _, it := range items {
			b, err := p.Payload(it.Ref, nil)
			var packet wire.Packet
			if err == nil {
				err = packet.Parse(b)
			}
			if err != nil {
				t.Errorf("%s/%d: %v", repo, it.Seq, err)
				continue
			}
			if packet.Sequence != uint64(it.Seq) {
				t.Errorf("%s/%d has position %d", repo, it.Seq, packet.Sequence)
			}
			if len(packet.ID) == 0 {
				continue
			}
			if err := p.View(func(m *repository.Machine) error {
				seq, _, found, err := m.FindID([]byte(repo), packet.ID)
				if err == nil && (!found || seq != it.Seq) {
					t.Errorf("%s/%d: its id %s has number %d, found %v", repo, it.Seq, packet.ID, seq, found)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
