package entrycache

import (
	"fmt"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"
)

func entry(index, term uint64, data string) *pb.Entry {
	return &pb.Entry{Index: &index, Term: &term, Data: []byte(data)}
}

// The cache against a map: whatever is put, a hit is always the entry that was
// put last under its index, hits are contiguous, and the bytes are bounded.
func TestCacheAgainstAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 200
		c := New(limit)
		model := map[uint64]string{}
		next := uint64(6)
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			from := next - min(next-6, uint64(rapid.IntRange(0, 3).Draw(t, "back")))
			if rapid.IntRange(0, 19).Draw(t, "hole") == 0 {
				from += 5
			}
			n := rapid.IntRange(1, 4).Draw(t, "n")
			var ents []*pb.Entry
			for i := range model {
				if i >= from {
					delete(model, i)
				}
			}
			for i := range uint64(n) {
				data := fmt.Sprintf("%0*d", rapid.IntRange(1, 90).Draw(t, "size"), step)
				ents = append(ents, entry(from+i, uint64(step), data))
				model[from+i] = data
			}
			c.Put(ents)
			next = from + uint64(n)
			checkCache(t, c, model, next, limit)
		}
	})
}

func checkCache(t *rapid.T, c *Cache, model map[uint64]string, next uint64, limit int64) {
	var held int64
	hits := 0
	for i := next + 3; i > 0; i-- {
		data, ok := c.Data(i)
		if !ok {
			continue
		}
		if string(data) != model[i] {
			t.Fatalf("entry %d is %q, want %q", i, data, model[i])
		}
		if uint64(hits) != next-1-i {
			t.Fatalf("a hole above %d", i)
		}
		held += int64(len(data))
		hits++
	}
	if hits == 0 {
		t.Fatal("the newest entry is gone")
	}
	if held != c.Bytes() || held > limit && hits > 1 {
		t.Fatalf("%d bytes held, %d counted, limit %d, %d entries", held, c.Bytes(), limit, hits)
	}
}

func TestCacheSliceLimits(t *testing.T) {
	c := New(1 << 20)
	for i := uint64(6); i < 300; i++ {
		c.Put([]*pb.Entry{entry(i, 1, "0123456789")})
	}
	for _, x := range []struct {
		lo, hi, max uint64
		want        int
	}{{6, 300, 1 << 20, 294}, {10, 12, 1 << 20, 2}, {10, 300, 0, 1}, {10, 300, 70, 2}, {5, 300, 1 << 20, 0}, {300, 301, 1, 0}} {
		if got := len(c.Slice(x.lo, x.hi, x.max)); got != x.want {
			t.Errorf("[%d,%d) of %d bytes: %d entries, want %d", x.lo, x.hi, x.max, got, x.want)
		}
	}
}

func TestCacheLimitShrinks(t *testing.T) {
	c := New(1 << 20)
	for i := uint64(6); i < 300; i++ {
		c.Put([]*pb.Entry{entry(i, 1, "0123456789")})
	}
	if c.Limit(100); c.Bytes() != 100 || c.First() != 290 {
		t.Errorf("%d bytes from entry %d on, want 100 from 290", c.Bytes(), c.First())
	}
	if c.Limit(1); c.Bytes() != 10 || c.First() != 299 {
		t.Errorf("%d bytes from entry %d on, want the newest", c.Bytes(), c.First())
	}
	c.Limit(1 << 20)
	if c.Put([]*pb.Entry{entry(300, 1, "0123456789")}); c.Bytes() != 20 {
		t.Errorf("%d bytes, want both", c.Bytes())
	}
}
