package repository

import "bytes"

// Local says whether a key of a partition is the replica's own: the spill, and
// what belongs to it. Replicas at the same index agree in all other keys.
func Local(key []byte) bool {
	if len(key) < 3 {
		return false
	}
	switch key[2] {
	case tableManifest, tableSpill:
		return true
	case tableMeta:
		return len(key) == 4 && key[3] == metaSpilled
	}
	return false
}

// References visits every payload that the state still refers to: of packets that
// are retained or redriven, and of dead letters. A packet that is both is visited twice. It
// ends with the first error. The state must not change meanwhile.
func (m *Machine) References(visit func(Ref) error) error {
	if err := m.retainedRefs(visit); err != nil {
		return err
	}
	err := m.scanTable(tableDead, func(k, v []byte) error {
		var x deadRecord
		if err := x.decode(v); err != nil {
			return &CorruptError{bytes.Clone(k), err.Error()}
		}
		return visit(x.ref)
	})
	if err != nil {
		return err
	}
	return m.scanTable(tableAgain, func(k, v []byte) error {
		var x again
		if err := x.decode(v); err != nil {
			return &CorruptError{bytes.Clone(k), err.Error()}
		}
		return visit(x.ref)
	})
}

func (m *Machine) retainedRefs(visit func(Ref) error) error {
	var x run
	return m.scanTable(tableRun, func(k, v []byte) error {
		name, rest, ok := splitRepo(k[3:])
		if !ok || len(rest) != 9 || rest[0] >= Ranks {
			return &CorruptError{bytes.Clone(k), "run"}
		}
		if err := x.decode(v); err != nil {
			return &CorruptError{bytes.Clone(k), err.Error()}
		}
		r, err := m.loadRepo(name)
		if err != nil {
			return err
		}
		m.repos.trim()
		s := &r.ranks[rest[0]]
		if s.count == 0 || x.last() < s.first {
			return nil
		}
		for i := x.above(s.first - 1); i < len(x.items); i++ {
			if err := visit(x.ref(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (m *Machine) scanTable(table byte, visit func(k, v []byte) error) error {
	lower := bytes.Clone(m.key(table))
	var bad error
	err := m.base.Scan(lower, keyAfter(lower), func(k, v []byte) bool {
		bad = visit(k, v)
		return bad == nil
	})
	if bad != nil {
		return bad
	}
	return err
}
