package repository

// LaneKey is the key of a group's lane of a repository, for who waits for what becomes
// of a packet. The result is new memory.
func (m *Machine) LaneKey(g GroupID, repo []byte) []byte { return cloneKey(m.keyLane(g, string(repo))) }

// DeadKey is the key of a packet's dead letter, likewise.
func (m *Machine) DeadKey(g GroupID, repo []byte, seq Seq) []byte {
	return cloneKey(m.keyDead(g, string(repo), seq))
}

// Watched visits the keys of the lanes and dead letters that e writes or deletes; with
// a lane, how far it is settled then. visit must not keep its arguments.
func (e *Effects) Watched(visit func(key []byte, cursors [Ranks]Seq, dead bool)) {
	for i := range e.ops {
		x := &e.ops[i]
		if len(x.key) < 3 || x.kind == OpDeleteRange {
			continue
		}
		switch x.key[2] {
		case tableDead:
			visit(x.key, [Ranks]Seq{}, true)
		case tableLane:
			d := decoder{b: x.value}
			d.byte() // version
			d.byte() // flags
			var cursors [Ranks]Seq
			for k := range cursors {
				cursors[k] = Seq(d.uvarint())
			}
			visit(x.key, cursors, false)
		}
	}
}
