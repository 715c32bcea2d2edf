package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/node/forward"
)

// forwardOptions are the flags of work that hand packets to a service.
type forwardOptions struct {
	to      forward.Config
	secrets string // a file of keys
	names   []string
}

func (o *forwardOptions) flags(fs *pflag.FlagSet) {
	o.to = forward.DefaultConfig()
	p := &o.to.Pool
	add := func(name string) string { o.names = append(o.names, name); return name }
	fs.StringVar(&o.to.URL, "forward", "", "`URL` to POST each packet to, instead of a command: 2xx done; 408, 425, 429, 5xx and no answer again; anything else dead")
	fs.StringVar(&o.to.Fallback, add("fallback"), "", "`URL` for what --forward has no answer for, or one of 5xx")
	fs.StringVar(&o.secrets, add("secret-file"), "", "`file` of keys that sign the requests after Standard Webhooks, one a line: whsec_… or base64")
	fs.DurationVar(&o.to.Timeout, add("timeout"), o.to.Timeout, "how long a request may last, with its answer")
	fs.IntVar(&o.to.MaxResult, add("max-result"), o.to.MaxResult, "`bytes` of an answer of 2xx that are kept as the packet's result, at most 1048576")
	fs.IntVar(&p.KeepMin, add("connections-min"), p.KeepMin, "`connections` to a service that stay open, once they are, until the worker ends")
	fs.IntVar(&p.KeepMax, add("connections-max"), p.KeepMax, "`connections` that stay open while used at least every 90s")
	fs.IntVar(&p.Burst, add("connections-burst"), p.Burst, "`connections` beyond those, closed after a request")
	fs.DurationVar(&p.Wait, add("connection-wait"), p.Wait, "how long a request waits when all connections are busy")
}

// given is a flag that was set though it means nothing without --forward.
func (o *forwardOptions) given(fs *pflag.FlagSet) string {
	for _, name := range o.names {
		if fs.Changed(name) {
			return name
		}
	}
	return ""
}

// run posts packets until the first signal, and what is under way then until the
// second one.
func (o *forwardOptions) run(ctx context.Context, s Streams, addr string, work *workOptions) error {
	o.to.Group = work.group
	if err := o.keys(); err != nil {
		return usagef("work: --secret-file: %v", err)
	}
	f, err := forward.New(o.to)
	if err != nil {
		return usagef("work: %v", err)
	}
	defer f.Close()
	drain, kill, stop := drainThenKill(ctx, s.Err)
	defer stop()
	c, err := dial(drain, s, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	handle := func(ctx context.Context, d *client.Delivery) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(kill, cancel)()
		return f.Handle(ctx, d)
	}
	err = c.Work(drain, work.group, handle, append(work.client(), client.WithDrainTimeout(o.longest()))...)
	if err != nil && drain.Err() == nil {
		return fmt.Errorf("work: %w", err)
	}
	return nil
}

// longest is how long a packet may take that is with a service when the worker ends.
func (o *forwardOptions) longest() time.Duration {
	d := o.to.Pool.Wait + o.to.Timeout
	if o.to.Fallback != "" {
		d *= 2
	}
	return d
}

func (o *forwardOptions) keys() error {
	if o.secrets == "" {
		return nil
	}
	file, err := os.Open(o.secrets)
	if err != nil {
		return err
	}
	defer file.Close()
	o.to.Keys, err = forward.ReadKeys(file)
	return err
}
