package actors

import (
	"sync"

	"github.com/waystation/waystation/actors/repository"
)

// tap is a partition whose barriers, commands, grants and payloads a test can hold
// or spoil.
type tap struct {
	*Partition
	mu       sync.Mutex
	holds    bool
	barriers []func(error) // held
	rounds   int           // barriers asked for
	commands holding
	grants   holding
	spoil    func(data []byte, err error) ([]byte, error)
}

// Barrier is the partition's, unless it is held.
func (p *tap) Barrier(done func(error)) {
	p.mu.Lock()
	p.rounds++
	if p.holds {
		p.barriers = append(p.barriers, done)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.Partition.Barrier(done)
}

// Payload is the partition's, spoiled if the test says so.
func (p *tap) Payload(ref repository.Ref, dst []byte) ([]byte, error) {
	data, err := p.Partition.Payload(ref, dst)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spoil != nil {
		return p.spoil(data, err)
	}
	return data, err
}

// holdBarriers lets no barrier pass until the returned function is called with
// their outcome.
func (p *tap) holdBarriers() (release func(error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holds = true
	return func(err error) {
		p.mu.Lock()
		list := p.barriers
		p.holds, p.barriers = false, nil
		p.mu.Unlock()
		for _, done := range list {
			done(err)
		}
	}
}

// holding keeps calls back for as long as it is on.
type holding struct {
	on    bool
	calls []func()
}

// keep answers whether call was kept. The caller holds the tap's lock.
func (x *holding) keep(call func()) bool {
	if x.on {
		x.calls = append(x.calls, call)
	}
	return x.on
}

// hold keeps calls back until the returned function is called.
func (p *tap) hold(x *holding) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x.on = true
	return func() {
		p.mu.Lock()
		calls := x.calls
		*x = holding{}
		p.mu.Unlock()
		for _, call := range calls {
			call()
		}
	}
}

// holdCommands lets no command of maintenance or backfill reach the partition.
func (p *tap) holdCommands() (release func()) { return p.hold(&p.commands) }

// holdGrants lets no grant reach the partition.
func (p *tap) holdGrants() (release func()) { return p.hold(&p.grants) }

// Command is the partition's, unless it is held.
func (p *tap) Command(add func(*repository.EntryBuilder), done func(*repository.Results, error)) {
	p.mu.Lock()
	kept := p.commands.keep(func() { p.Partition.Command(add, done) })
	p.mu.Unlock()
	if !kept {
		p.Partition.Command(add, done)
	}
}

// Grant is the partition's, unless it is held.
func (p *tap) Grant(g *repository.Grant, done func(*repository.GrantResult, error)) {
	p.mu.Lock()
	kept := p.grants.keep(func() { p.Partition.Grant(g, done) })
	p.mu.Unlock()
	if !kept {
		p.Partition.Grant(g, done)
	}
}
