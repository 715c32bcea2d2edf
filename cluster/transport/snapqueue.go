package transport

import (
	"fmt"
	"io"
	"sync"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/storage"
)

// snapJob is a snapshot that is to be sent. done is called once.
type snapJob struct {
	group storage.GroupID
	m     *pb.Message
	body  func(io.Writer) error
	done  func(error)
}

// snapQueue holds the snapshots that wait for one peer: one is sent at a time.
type snapQueue struct {
	mu    sync.Mutex
	limit int
	jobs  []snapJob
	err   error // set once closed
	bell  chan struct{}
}

func newSnapQueue(limit int) *snapQueue {
	return &snapQueue{limit: limit, bell: make(chan struct{}, 1)}
}

// push says why a job is not taken.
func (q *snapQueue) push(j snapJob) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return q.err
	}
	if len(q.jobs) >= q.limit {
		return fmt.Errorf("%w: %d snapshots wait already", ErrBusy, len(q.jobs))
	}
	q.jobs = append(q.jobs, j)
	select {
	case q.bell <- struct{}{}:
	default:
	}
	return nil
}

func (q *snapQueue) pop() (snapJob, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs) == 0 {
		return snapJob{}, false
	}
	j := q.jobs[0]
	q.jobs[0] = snapJob{}
	q.jobs = q.jobs[1:]
	return j, true
}

// close fails what waits and whatever comes.
func (q *snapQueue) close(err error) {
	q.mu.Lock()
	jobs := q.jobs
	q.jobs, q.err = nil, err
	q.mu.Unlock()
	for _, j := range jobs {
		j.done(err)
	}
}
