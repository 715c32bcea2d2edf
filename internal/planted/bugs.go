package main

// bug is one promise broken on purpose.
type bug struct {
	name, promise string
	file          string
	old, new      string // old stands once in file
	pkg, test     string // must fail
}

var bugs = []bug{
	{
		name: "the log is written without a sync", promise: "P1",
		file: "cluster/logwriter.go",
		old:  "err := batch.Commit(sync)", new: "err := batch.Commit(false)",
		pkg: "internal/crash", test: "TestPowerLoss",
	},
	{
		name: "the spill is not made", promise: "P1",
		file: "actors/repository/spill.go",
		old:  "m.eff.set(m.keySpill(s.index, base, spillRun), m.vbuf)", new: "_ = base",
		pkg: "internal/crash", test: "TestPowerLoss",
	},
	{
		name: "a gap is let through", promise: "P2",
		file: "actors/repository/publish.go",
		old:  "case p.position > prod.last+1:", new: "case p.position > prod.last+1000:",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "a grant passes over the head", promise: "P2",
		file: "actors/repository/publish.go",
		old:  "case it.seq <= l.cursors[rank]:", new: "case it.seq <= l.cursors[rank]+1:",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "a settlement over a hole is taken", promise: "P2",
		file: "actors/repository/settle.go",
		old:  "if next.item.seq != s.Failed || s.Failed > l.last {", new: "if next.item.seq == 0 || s.Failed > l.last {",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "ids are not remembered", promise: "P3",
		file: "actors/repository/publish.go",
		old:  "m.rememberID(r.id, p.id, r.head, p.contentCRC)", new: "_ = p.contentCRC",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "positions are not stored", promise: "P3",
		file: "actors/repository/publish.go",
		old:  "m.storeProducer(r, string(name), p)", new: "_, _ = r, name",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "a duplicate by id keeps its position", promise: "P3",
		file: "actors/repository/publish.go",
		old:  "m.accept(r, p, prod, seq)", new: "_ = seq",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "a second lease is granted", promise: "P4",
		file: "actors/repository/publish.go",
		old:  "case l.token != 0:\n\t\treturn GrantResult{Code: Leased}, nil", new: "case l.token == 1:\n\t\treturn GrantResult{Code: Leased}, nil",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "an old token is accepted", promise: "P4",
		file: "actors/repository/settle.go",
		old:  "if s.Token == 0 || l.token != s.Token {", new: "if s.Token == 0 || l.token == 0 {",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "an expired packet leaves no dead letter", promise: "P6",
		file: "actors/repository/dead.go",
		old:  "m.bury(g, r, rank, h, ReasonExpired, attempts, text)", new: "_, _ = attempts, text",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "a dead letter blocks its lane", promise: "P7",
		file: "actors/repository/settle.go",
		old:  "return true, m.pass(g, r, l, rank, h.item.seq)", new: "return true, nil",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "a settled run keeps its spill's place", promise: "P1",
		file: "actors/repository/spill.go",
		old:  "if it := &x.items[i]; it.seq >= r.ranks[rank].first {", new: "if it := &x.items[i]; it.seq > r.ranks[rank].first {",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
}
