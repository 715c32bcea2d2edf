package fleet

import "os/exec"

// Way says which direction of a node's traffic with the others is cut.
type Way int

// The ways.
const (
	BothWays Way = iota
	// Inbound: the node is heard, and hears nothing.
	Inbound
	// Outbound: the node hears, and is not heard.
	Outbound
)

// String is for people.
func (w Way) String() string {
	return [...]string{"both ways", "it hears nothing", "nobody hears it"}[w]
}

// Network is what the nodes talk over. Nodes are numbered from 0.
type Network interface {
	// Place makes room for a node.
	Place(node int) (Place, error)
	// Cut drops what goes between a node and the others, without a word to either,
	// until Heal.
	Cut(node int, others []int, way Way) error
	Heal(node int, others []int) error
	// Close gives back what Place took. The nodes have ended.
	Close() error
}

// Place is where a node is run.
type Place struct {
	Addresses     Addresses
	Advertise     string
	GossipKeyFile string
	// Detour is the way to the others, if not straight.
	Detour *Detour
	// Start starts a process there; nil: as usual.
	Start func(*exec.Cmd) error
	// Started is told each new process; it may be nil.
	Started func(pid int)
}

func (p *Place) start(cmd *exec.Cmd) error {
	if p.Start == nil {
		return cmd.Start()
	}
	return p.Start(cmd)
}

func (p *Place) started(pid int) {
	if p.Started != nil {
		p.Started(pid)
	}
}

// Here is any free ports of loopback.
func Here() Place { return Place{Addresses: AnyPort()} }

// loopback is a network without partitions.
type loopback struct{}

// Loopback returns a network in which nothing can be cut.
func Loopback() Network { return loopback{} }

func (loopback) Place(int) (Place, error)  { return Here(), nil }
func (loopback) Cut(int, []int, Way) error { return errNoCut }
func (loopback) Heal(int, []int) error     { return errNoCut }
func (loopback) Close() error              { return nil }
