package transport

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

type snapReceiver = func(identity.NodeID, storage.GroupID, *pb.Message, io.Reader) error

// sendSnap sends a snapshot and returns where its outcome comes.
func sendSnap(a *testNode, to int, body func(io.Writer) error) <-chan error {
	m := message(pb.MsgSnap, a.i, to, 0)
	m.Snapshot = &pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: ptr(uint64(77)), Term: ptr(uint64(3))}}
	done := make(chan error, 2)
	a.SendSnapshot(5, m, body, func(err error) { done <- err })
	return done
}

func bytesOf(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

func await[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("not reached")
	}
}

func takes(into *bytes.Buffer) snapReceiver {
	return func(_ identity.NodeID, _ storage.GroupID, _ *pb.Message, r io.Reader) error {
		_, err := into.ReadFrom(r)
		return err
	}
}

func TestSnapshotSizes(t *testing.T) {
	w := newWorld(t)
	var got bytes.Buffer
	var header *pb.Message
	a := w.start(1, nil)
	w.start(2, func(c *Config) {
		c.ReceiveSnapshot = func(from identity.NodeID, g storage.GroupID, m *pb.Message, r io.Reader) error {
			if from != nodeID(1) || g != 5 {
				return errors.New("from elsewhere")
			}
			header = m
			_, err := got.ReadFrom(r)
			return err
		}
	})
	for _, size := range []int{0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3*chunkBytes + 7} {
		want := bytes.Repeat([]byte("snapshot"), size/8+1)[:size]
		got.Reset()
		if err := await(t, "the outcome", sendSnap(a, 2, bytesOf(want))); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) || header.GetSnapshot().GetMetadata().GetIndex() != 77 {
			t.Fatalf("%d bytes of %d came, header %v", got.Len(), size, header)
		}
	}
}

// A receiver that knows how much comes need not read the end as well.
func TestSnapshotOfKnownSize(t *testing.T) {
	w := newWorld(t)
	a := w.start(1, nil)
	w.start(2, func(c *Config) {
		c.ReceiveSnapshot = func(_ identity.NodeID, _ storage.GroupID, _ *pb.Message, r io.Reader) error {
			_, err := io.CopyN(io.Discard, r, 1000)
			return err
		}
	})
	if err := await(t, "the outcome", sendSnap(a, 2, bytesOf(make([]byte, 1000)))); err != nil {
		t.Fatal(err)
	}
	if err := await(t, "the outcome", sendSnap(a, 2, bytesOf(make([]byte, 1001)))); err == nil {
		t.Fatal("a byte was not read, and nobody noticed")
	}
}

// A large snapshot is under way, and rounds of raft messages complete all the
// same: many more than could if they waited for it.
func TestSnapshotDoesNotBlockMessages(t *testing.T) {
	w := newWorld(t)
	const size, rounds = 100 << 20, 100
	a := w.start(1, func(c *Config) { c.SnapshotBytesPerSecond = 0 })
	sum, more := uint32(0), make(chan struct{})
	b := w.start(2, func(c *Config) {
		c.ReceiveSnapshot = func(_ identity.NodeID, _ storage.GroupID, _ *pb.Message, r io.Reader) error {
			h := crc32.New(castagnoli)
			if _, err := io.CopyN(h, r, size/2); err != nil {
				return err
			}
			<-more // the other half stays under way
			_, err := io.Copy(h, r)
			sum = h.Sum32()
			return err
		}
	})
	block, want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16), crc32.New(castagnoli)
	done := sendSnap(a, 2, func(w io.Writer) error {
		w = io.MultiWriter(w, want)
		for n := 0; n < size; n += len(block) {
			if _, err := w.Write(block); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range uint64(rounds) {
		a.Send(1, []*pb.Message{appendMessage(1, 2, i, 10_000)})
		b.await("an append", func(got []received) bool { return len(got) == int(i)+1 })
		b.Send(1, []*pb.Message{message(pb.MsgAppResp, 2, 1, i)})
		a.await("an answer", func(got []received) bool { return len(got) == int(i)+1 })
	}
	select {
	case err := <-done:
		t.Fatalf("the snapshot ended before the messages: %v", err)
	default:
	}
	close(more)
	if err := await(t, "the outcome", done); err != nil || sum != want.Sum32() {
		t.Fatalf("%v, checksum %x", err, sum)
	}
}

func TestOneSnapshotAtATime(t *testing.T) {
	w := newWorld(t)
	a := w.start(1, func(c *Config) { c.QueuedSnapshots = 2 })
	var mu sync.Mutex
	active, most := 0, 0
	first, goOn := make(chan struct{}, 10), make(chan struct{})
	w.start(2, func(c *Config) {
		c.ReceiveSnapshot = func(_ identity.NodeID, _ storage.GroupID, _ *pb.Message, r io.Reader) error {
			mu.Lock()
			active++
			most = max(most, active)
			mu.Unlock()
			first <- struct{}{}
			<-goOn
			_, err := io.Copy(io.Discard, r)
			mu.Lock()
			active--
			mu.Unlock()
			return err
		}
	})
	outcomes := []<-chan error{sendSnap(a, 2, bytesOf([]byte("x")))}
	await(t, "the first", first)
	for range 2 {
		outcomes = append(outcomes, sendSnap(a, 2, bytesOf([]byte("x"))))
	}
	if err := await(t, "a refusal", sendSnap(a, 2, bytesOf(nil))); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	close(goOn)
	for _, o := range outcomes {
		if err := await(t, "the outcome", o); err != nil {
			t.Fatal(err)
		}
	}
	if most != 1 {
		t.Fatalf("%d at a time", most)
	}
}

func TestSnapshotFailures(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 8<<20)
	var sink bytes.Buffer
	full := func(_ identity.NodeID, _ storage.GroupID, _ *pb.Message, r io.Reader) error {
		if _, err := io.CopyN(io.Discard, r, 1000); err != nil {
			return err
		}
		return errors.New("disk full")
	}
	noBody := func(io.Writer) error { return nil }
	for name, x := range map[string]struct {
		to      int
		receive snapReceiver
		body    func(io.Writer) error
		text    string
	}{
		"the receiver fails at once": {2, func(identity.NodeID, storage.GroupID, *pb.Message, io.Reader) error {
			return errors.New("no such group")
		}, noBody, "no such group"},
		"the receiver fails later":    {2, full, bytesOf(big), "disk full"},
		"the receiver does not read":  {2, func(identity.NodeID, storage.GroupID, *pb.Message, io.Reader) error { return nil }, bytesOf(big), "not read to its end"},
		"the body fails at once":      {2, takes(&sink), func(io.Writer) error { return errors.New("cannot read state") }, "cannot read state"},
		"the body fails later":        {2, takes(&sink), func(w io.Writer) error { return errors.Join(bytesOf(big)(w), errors.New("cannot go on")) }, "cannot go on"},
		"the replica lives nowhere":   {900, nil, noBody, "lives nowhere"},
		"the node cannot be reached":  {3, nil, noBody, "address unknown"},
		"the replica lives elsewhere": {2, nil, noBody, "does not live on"},
	} {
		t.Run(name, func(t *testing.T) {
			sink.Reset()
			w := newWorld(t)
			a := w.start(1, nil)
			w.start(2, func(c *Config) {
				if c.ReceiveSnapshot = x.receive; x.receive == nil {
					c.ReceiveSnapshot = takes(&sink)
				}
				if name == "the replica lives elsewhere" {
					c.Resolve = func(storage.GroupID, storage.ReplicaID) (identity.NodeID, bool) { return nodeID(9), true }
				}
			})
			if err := await(t, "the outcome", sendSnap(a, x.to, x.body)); err == nil || !strings.Contains(err.Error(), x.text) {
				t.Fatal(err)
			}
			if x.to == 2 {
				until(t, "counts", func() bool { return a.metric("snapshots_failed_total") == 1 })
			}
		})
	}
}

// What the sender gives up never looks like an end to the receiver.
func TestSnapshotNeverEndsEarly(t *testing.T) {
	part := bytes.Repeat([]byte("x"), 3*chunkBytes)
	for name, x := range map[string]struct {
		frames [][]byte
		want   string
	}{
		"the connection breaks":   {nil, io.ErrUnexpectedEOF.Error()},
		"half a chunk":            {[][]byte{appendFrame(nil, frameSnapChunk, part[:100]...)[:50]}, io.ErrUnexpectedEOF.Error()},
		"the sender gives up":     {[][]byte{appendFrame(nil, frameSnapAbort, []byte("tired")...)}, "tired"},
		"another size":            {[][]byte{appendFrame(nil, frameSnapEnd, make([]byte, 12)...)}, "another checksum"},
		"an end without numbers":  {[][]byte{appendFrame(nil, frameSnapEnd)}, "another checksum"},
		"a frame of another lane": {[][]byte{appendFrame(nil, frameMessages, 0, 0, 0, 0)}, "snapshot lane"},
		"a second header":         {[][]byte{appendFrame(nil, frameSnapHeader, 0, 0, 0, 0)}, "snapshot lane"},
		"a huge chunk":            {[][]byte{appendFrame(nil, frameSnapChunk, part...)}, "are the most"},
		"a damaged chunk":         {[][]byte{damage(appendFrame(nil, frameSnapChunk, part[:100]...))}, "checksum differs"},
	} {
		t.Run(name, func(t *testing.T) {
			outcome := make(chan error, 1)
			n := newWorld(t).start(1, func(c *Config) {
				c.ReceiveSnapshot = func(_ identity.NodeID, _ storage.GroupID, _ *pb.Message, r io.Reader) error {
					_, err := io.Copy(io.Discard, r)
					if _, again := r.Read(make([]byte, 1)); again == nil {
						err = nil // an error must stay
					}
					outcome <- err
					return err
				}
			})
			c := snapLane(t, n, message(pb.MsgSnap, 2, 1, 0))
			for _, b := range append([][]byte{appendFrame(nil, frameSnapChunk, part[:1000]...)}, x.frames...) {
				_, _ = c.Write(b)
			}
			c.(*net.TCPConn).CloseWrite()
			if err := await(t, "the outcome", outcome); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Fatalf("%v, want %s", err, x.want)
			}
		})
	}
}

func damage(b []byte) []byte {
	b[len(b)-1] ^= 1
	return b
}

// snapLane begins a snapshot by hand.
func snapLane(t *testing.T, n *testNode, m *pb.Message) net.Conn {
	t.Helper()
	h := n.helloFrom(2)
	h.Lane = LaneSnapshot
	c, _, r := n.pose(h)
	if r != nil {
		t.Fatal(r)
	}
	b, err := proto.MarshalOptions{}.MarshalAppend([]byte{0, 0, 0, 5}, m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(appendFrame(nil, frameSnapHeader, b...)); err != nil {
		t.Fatal(err)
	}
	return c
}

// Whoever takes longer than a connection may be silent is not mistaken for dead.
func TestSlowSnapshot(t *testing.T) {
	for _, slow := range []string{"before it reads", "after it read", "before it writes", "after it wrote"} {
		t.Run(slow, func(t *testing.T) {
			t.Parallel()
			nap := func(now string) {
				if now == slow {
					timer := time.NewTimer(4 * time.Second)
					defer timer.Stop()
					<-timer.C
				}
			}
			w := newWorld(t)
			change := func(c *Config) {
				c.Timeout = 3 * time.Second
				c.ReceiveSnapshot = func(_ identity.NodeID, _ storage.GroupID, _ *pb.Message, r io.Reader) error {
					nap("before it reads")
					_, err := io.Copy(io.Discard, r)
					nap("after it read")
					return err
				}
			}
			a := w.start(1, change)
			w.start(2, change)
			err := await(t, "the outcome", sendSnap(a, 2, func(w io.Writer) error {
				nap("before it writes")
				_, err := w.Write(make([]byte, 1<<20))
				nap("after it wrote")
				return err
			}))
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A dead receiver, and a forgotten one, do not hold a snapshot up.
func TestSnapshotToTheDead(t *testing.T) {
	for name, end := range map[string]func(*testNode){
		"silence":   nil,
		"forgotten": func(n *testNode) { n.Forget(nodeID(2)) },
		"stopped":   func(n *testNode) { n.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.start(1, func(c *Config) {
				if end == nil {
					c.Timeout = 300 * time.Millisecond
				}
			})
			w.fakePeer(2, nil)
			writes := make(chan struct{}, 1<<20)
			done := sendSnap(a, 2, func(w io.Writer) error {
				for {
					if _, err := w.Write(make([]byte, chunkBytes)); err != nil {
						return err
					}
					writes <- struct{}{}
				}
			})
			if end != nil {
				await(t, "a write", writes)
				end(a)
			}
			if err := await(t, "the outcome", done); err == nil || name == "stopped" && !errors.Is(err, ErrStopped) {
				t.Fatal(err)
			}
		})
	}
}

// A second snapshot of a sender that lost its first connection waits for that
// to end, and is told if it does not.
func TestSnapshotWhileAnotherIsTaken(t *testing.T) {
	stuck := make(chan struct{})
	begun := make(chan struct{}, 1)
	n := newWorld(t).start(1, func(c *Config) {
		c.HelloTimeout = 4 * time.Second
		c.ReceiveSnapshot = func(identity.NodeID, storage.GroupID, *pb.Message, io.Reader) error {
			begun <- struct{}{}
			<-stuck
			return nil
		}
	})
	defer close(stuck)
	snapLane(t, n, message(pb.MsgSnap, 2, 1, 0))
	await(t, "the first", begun)
	h := n.helloFrom(2)
	h.Lane = LaneSnapshot
	if _, _, r := n.pose(h); !errors.Is(r, ErrBusy) {
		t.Fatal(r)
	}
}

func TestSnapshotHeaders(t *testing.T) {
	for name, b := range map[string][]byte{"short": {1}, "no message": {0, 0, 0, 1, 0xff}, "another message": {0, 0, 0, 1, 8, 3}} {
		if _, _, err := parseSnapHeader(frameSnapHeader, b); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzSnapHeader(f *testing.F) {
	f.Add(uint8(frameSnapHeader), []byte{0, 0, 0, 1, 8, 7})
	f.Fuzz(func(_ *testing.T, kind uint8, b []byte) { _, _, _ = parseSnapHeader(frameKind(kind), b) })
}

// FuzzSnapBody feeds whatever comes to a receiver.
func FuzzSnapBody(f *testing.F) {
	end := appendFrame(nil, frameSnapEnd, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0)
	f.Add(append(appendFrame(nil, frameSnapChunk, 1, 2, 3), end...))
	f.Add(appendFrame(appendFrame(nil, frameWorking), frameSnapAbort, 'x'))
	f.Fuzz(func(t *testing.T, b []byte) {
		here, there := net.Pipe()
		defer here.Close()
		go func() {
			_, _ = there.Write(b)
			there.Close()
		}()
		r := &snapReader{t: &Transport{cfg: DefaultConfig(), ctx: t.Context()}, conn: here, r: readerOf(here)}
		n, err := io.Copy(io.Discard, r)
		if err == nil && (!r.over || n != r.size) {
			t.Fatalf("%d bytes of %d", n, r.size)
		}
	})
}
