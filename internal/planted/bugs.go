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
		old:  "m.eff.set(m.keySpill(s.index, x.base, spillRun), m.vbuf)", new: "_ = x",
		pkg: "internal/crash", test: "TestPowerLoss",
	},
	{
		name: "the spill leaves a packet out", promise: "P1",
		file: "actors/repository/spill.go",
		old:  "return s.copy(x, x.above(r.ranks[rank].first-1))", new: "return s.copy(x, min(x.above(r.ranks[rank].first), len(x.items)-1))",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "a snapshot is laid over what was there", promise: "P1",
		file: "storage/pebble_stage.go",
		old:  "pebble.KeyRange{Start: lower, End: upper}", new: "pebble.KeyRange{}",
		pkg: "storage", test: "TestConformance/Stage",
	},
	{
		name: "the log is reset without its marker's removal", promise: "P1",
		file: "storage/log_install.go",
		old:  "b.SetHardState(g, hs)\n\tb.DropInstall(g)", new: "b.SetHardState(g, hs)",
		pkg: "storage/memstore", test: "TestConformance/InstallCrash",
	},
	{
		name: "tables that a damaged manifest forgot are not missed", promise: "P1",
		file: "storage/pebble.go",
		old:  "return w.check(p.name, next)", new: "return w.check(p.name, next+1<<40)",
		pkg: "storage", test: "TestFlippedBitsEverywhere",
	},
	{
		name: "a cut beside a damaged block takes the rest of the table", promise: "P1",
		file: "storage/pebble_stage.go",
		old:  "l, u, err := p.cut(context.Background(), lower, upper)", new: "l, u, err := lower, upper, error(nil)",
		pkg: "storage", test: "TestCutBesideDamage",
	},
	{
		name: "a segment's sync is left out", promise: "P1",
		file: "storage/segment_log.go",
		old:  "if err := s.file.SyncData(); err != nil {", new: "if err := error(nil); err != nil {",
		pkg: "storage", test: "TestLossyConformance/LogCrash",
	},
	{
		name: "a segment's torn end is read", promise: "P1",
		file: "storage/segment_tail.go",
		old:  "if !ok || !sound(v.verify(&f)) && f.seq > vouched {", new: "if !ok {",
		pkg: "storage", test: "TestLossyConformance/LogCrash",
	},
	{
		name: "a segment begins before the one in front is synced", promise: "P1",
		file: "storage/segment_log.go",
		old:  "if l.durable != l.seq {", new: "if l.durable > l.seq {",
		pkg: "storage", test: "TestLossyConformance/LogCrash",
	},
	{
		name: "a segment's synced frames are not missed", promise: "P1",
		file: "storage/segment_open.go",
		old:  `if t.lost != "" {`, new: `if t.lost == "none" {`,
		pkg: "storage", test: "TestLostFrame",
	},
	{
		name: "a gap is let through", promise: "P2",
		file: "actors/repository/position.go",
		old:  "case p.position > prod.last+1:", new: "case p.position > prod.last+1000:",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "a grant passes over the head", promise: "P2",
		file: "actors/repository/grant.go",
		old:  "for i := x.above(cursor); i < len(x.items); i++ {", new: "for i := x.above(cursor + 1); i < len(x.items); i++ {",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "a settlement over a hole is taken", promise: "P2",
		file: "actors/repository/settle.go",
		old:  "return s.Failed == 0 || next.item.seq != s.Failed, err", new: "return s.Failed == 0 || next.item.seq == 0, err",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "another packet's end ends the back-off", promise: "P2",
		file: "actors/repository/retained.go",
		old:  "\t\tl.heads[rank] = head{}\n", new: "\t\tl.heads = [Ranks]head{}\n",
		pkg: "actors/repository", test: "TestBackoffSurvivesExpiry",
	},
	{
		name: "ids are not remembered", promise: "P3",
		file: "actors/repository/publish.go",
		old:  "m.rememberID(r.id, p.id, r.head, p.contentCRC)", new: "_ = p.contentCRC",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "an id is forgotten a millisecond early", promise: "P3",
		file: "actors/repository/ids.go",
		old:  "if at+int64(m.cfg.DedupWindowMs) <= m.logTimeMs {", new: "if at+int64(m.cfg.DedupWindowMs) <= m.logTimeMs+1 {",
		pkg: "actors/repository", test: "TestIDWindowEdge",
	},
	{
		name: "an id is known a millisecond too long", promise: "P3",
		file: "actors/repository/ids.go",
		old:  "if at+int64(m.cfg.DedupWindowMs) <= m.logTimeMs {", new: "if at+int64(m.cfg.DedupWindowMs) < m.logTimeMs {",
		pkg: "actors/repository", test: "TestIDWindowEdge",
	},
	{
		name: "the ids lie in eight buckets", promise: "P3",
		file: "actors/repository/ids.go",
		old:  "if n = len(m.buckets); n == maxBuckets {", new: "if n = len(m.buckets); n == maxBuckets+1 {",
		pkg: "actors/repository", test: "TestIDWindow",
	},
	{
		name: "positions are not stored", promise: "P3",
		file: "actors/repository/position.go",
		old:  "m.storeProducer(r, string(x.name), x.p)", new: "_ = x",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "a dropped producer is known still", promise: "P3",
		file: "actors/repository/producer.go",
		old:  "\tr.producers[id] = nil\n", new: "\tdelete(r.producers, id)\n",
		pkg: "actors/repository", test: "TestProducerComesBackWithinAnEntry",
	},
	{
		name: "a duplicate by id keeps its position", promise: "P3",
		file: "actors/repository/publish.go",
		old:  "m.accept(r, p, &b.prod, seq)", new: "_ = seq",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "a second lease is granted", promise: "P4",
		file: "actors/repository/grant.go",
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
		name: "an ended lease says yes to anything", promise: "P4",
		file: "actors/repository/ended.go",
		old:  "x.token != 0 && x.says(s)", new: "x.token != 0",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "only the last ended lease is known", promise: "P4",
		file: "actors/repository/ended.go",
		old:  "for i := range e {", new: "for i := range e[:1] {",
		pkg: "actors/repository", test: "TestSettlementTwiceAfterOtherLeases",
	},
	{
		name: "an expired packet leaves no dead letter", promise: "P6",
		file: "actors/repository/expire.go",
		old:  "m.bury(g, r, rank, h, ReasonExpired, &known)", new: "_ = known",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "expiry leaves out lanes without an index", promise: "P6",
		file: "actors/repository/expire.go",
		old:  "if l.cursors[rank] >= seq || l.exempts(rank, seq) != 0 {", new: "if l.cursors[rank] >= seq || l.exempts(rank, seq) != 0 || !g.indexed(r.id) {",
		pkg: "actors/repository", test: "TestRetentionBeforeBackfill",
	},
	{
		name: "a dead letter blocks its lane", promise: "P7",
		file: "actors/repository/policy.go",
		old:  "\treturn m.pass(g, r, l, l.rank, seq)\n", new: "\treturn nil\n",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "a blocked lane goes on", promise: "P7",
		file: "actors/repository/policy.go",
		old:  "l.blocked, l.blockedIn, l.dirty = seq, l.rank, true", new: "l.dirty = true",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "a redriven packet keeps its place", promise: "P2",
		file: "actors/repository/again.go",
		old:  "seq: r.head, of: of,", new: "seq: of, of: of,",
		pkg: "actors/repository", test: "TestMachineAgainstModel",
	},
	{
		name: "overtaking forgets the attempts", promise: "P7",
		file: "actors/repository/grant.go",
		old:  "\th := &l.heads[rank]\n", new: "\tmine := l.heads[rank]\n\tl.heads = [Ranks]head{}\n\tl.heads[rank] = mine\n\th := &l.heads[rank]\n",
		pkg: "actors/repository", test: "TestAttemptsSurviveOvertaking",
	},
	{
		name: "a client switches streams with packets in flight", promise: "P2",
		file: "client/pin.go",
		old:  "case l.Open() == 0:\n\t\tp.pin(l, want)", new: "case true:\n\t\tp.pin(l, want)",
		pkg: "client", test: "TestLaneIsDrainedBeforeItSwitches",
	},
	{
		name: "a client believes an older term", promise: "P1",
		file: "client/atlas.go",
		old:  "p.GetTerm() <= l.term", new: "p.GetTerm() == l.term",
		pkg: "client", test: "TestAtlasMergesByTerm",
	},
}
