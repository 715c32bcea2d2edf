package codec

import "testing"

func TestClassesHoldWhatTheyPromise(t *testing.T) {
	last := 0
	for n := 0; n <= 1<<maxClassBits; n += 1 + n/257 {
		class, size := classOf(n)
		if class < last || class >= classes {
			t.Fatalf("%d bytes: class %d after %d", n, class, last)
		}
		if size < n || n > 1<<minClassBits && size > n+n/4+1 {
			t.Fatalf("%d bytes: size %d", n, size)
		}
		if again, same := classOf(size); again != class || same != size {
			t.Fatalf("%d bytes: class %d of %d, which is in class %d of %d", n, class, size, again, same)
		}
		last = class
	}
	for _, n := range []int{1<<maxClassBits + 1, 64 << 20} {
		if class, _ := classOf(n); class < classes {
			t.Errorf("%d bytes: class %d", n, class)
		}
	}
}

func TestPoolLengths(t *testing.T) {
	p := NewPoisonedPool()
	for _, n := range []int{0, 1, 1024, 1025, 66_000, 1 << maxClassBits, 1<<maxClassBits + 1} {
		for range 2 {
			b := p.Get(n)
			if len(*b) != n {
				t.Fatalf("got %d bytes, want %d", len(*b), n)
			}
			*b = (*b)[:n/2] // a user may shorten it; its memory is taken back whole
			p.Put(b)
		}
	}
	foreign := make([]byte, 1500) // no class: dropped, not handed out as 1,536
	p.Put(&foreign)
	if b := p.Get(1536); cap(*b) < 1536 {
		t.Fatalf("capacity %d", cap(*b))
	}
}
