package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/client/internal/fakerelay"
)

// The examples talk to a relay in memory, so that they run as tests. A program
// dials a node, such as "127.0.0.1:7400".

func Example() {
	relay := fakerelay.Start() // stands for: go run ./node
	defer relay.Stop()
	ctx := context.Background()

	c, err := client.Dial(ctx, "127.0.0.1:7400", client.WithDialer(relay.Dial))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	receipt, err := c.Publish(ctx, &client.Packet{RepoID: "acme/api", Content: []byte("diff --git a/main.go b/main.go")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("accepted as", receipt.Sequence)

	err = c.Work(ctx, "ci", func(_ context.Context, d *client.Delivery) error {
		fmt.Printf("%s %d: %s\n", d.RepoID, d.Sequence, d.Content)
		return nil
	}, client.WithMaxPackets(1))
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// accepted as 1
	// acme/api 1: diff --git a/main.go b/main.go
}

func ExampleClient_Publish() {
	relay := fakerelay.Start()
	defer relay.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, "127.0.0.1:7400", client.WithDialer(relay.Dial))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	packet := &client.Packet{
		RepoID:   "acme/api",
		PacketID: "push-4711", // deduplicated, whoever sends it
		Content:  []byte("…"),
		Metadata: map[string]string{"branch": "main"},
		Priority: client.PriorityHigh,
	}
	for range 2 {
		receipt, err := c.Publish(ctx, packet)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(receipt.Sequence, receipt.Duplicate)
	}

	_, err = c.Publish(ctx, &client.Packet{})
	var refusal *client.Error
	if errors.As(err, &refusal) {
		fmt.Println(refusal.Code, refusal.Field)
	}
	// Output:
	// 1 false
	// 1 true
	// INVALID_ARGUMENT repo_id
}

func ExampleClient_PublishAsync() {
	relay := fakerelay.Start()
	defer relay.Stop()
	ctx := context.Background()
	c, err := client.Dial(ctx, "127.0.0.1:7400", client.WithDialer(relay.Dial))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	// Thousands are in flight at once, and still get their numbers in this order.
	for i := 1; i <= 3; i++ {
		packet := &client.Packet{RepoID: "acme/api", Content: fmt.Appendf(nil, "change %d", i)}
		err := c.PublishAsync(ctx, packet, func(r client.Receipt, err error) {
			if err != nil {
				log.Println(err)
				return
			}
			fmt.Println("accepted as", r.Sequence)
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := c.Flush(ctx); err != nil { // all have their receipts
		log.Fatal(err)
	}
	// Output:
	// accepted as 1
	// accepted as 2
	// accepted as 3
}

func ExampleClient_Work() {
	relay := fakerelay.Start()
	defer relay.Stop()
	ctx := context.Background()
	c, err := client.Dial(ctx, "127.0.0.1:7400", client.WithDialer(relay.Dial))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for _, content := range []string{"index me", "not a diff"} {
		if _, err := c.Publish(ctx, &client.Packet{RepoID: "acme/api", Content: []byte(content)}); err != nil {
			log.Fatal(err)
		}
	}

	// A program lets ctx end with a signal (signal.NotifyContext): Work drains.
	err = c.Work(ctx, "indexer", func(ctx context.Context, d *client.Delivery) error {
		if string(d.Content) == "not a diff" {
			return client.Dead(errors.New("not a diff")) // no use to try again
		}
		// ctx ends when the lease is lost; another worker has the packet then.
		if err := index(ctx, d.Content, d.LeaseToken); err != nil {
			return err // tried again after a back-off
		}
		d.SetResult([]byte("1 file"))
		return nil
	}, client.WithConcurrency(4), client.WithMaxPackets(2))
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range relay.Settled() {
		fmt.Printf("%d %v: %s%s\n", s.GetSequence(), s.GetOutcome(), s.GetResult(), s.GetError())
	}
	// Output:
	// 1 DONE: 1 file
	// 2 DEAD: not a diff
}

// A worker that needs a while to load says so before it takes packets, begins with
// few of them, gives none more than a minute, and has a simpler way when its own
// does not do.
func ExampleWithFallback() {
	relay := fakerelay.Start()
	defer relay.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, "127.0.0.1:7400", client.WithDialer(relay.Dial))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Publish(ctx, &client.Packet{RepoID: "acme/api", Content: []byte("diff")}); err != nil {
		log.Fatal(err)
	}

	review := func(context.Context, *client.Delivery) error { return errors.New("out of memory") }
	lint := func(_ context.Context, d *client.Delivery) error {
		d.SetResult([]byte("looks fine"))
		return nil
	}
	err = c.Work(ctx, "reviewers", review,
		client.WithWarmUp(func(context.Context) error { fmt.Println("model loaded"); return nil }),
		client.WithSlowStart(),
		client.WithPacketTimeout(time.Minute),
		client.WithFallback(lint),
		client.WithWorkerVersion("1.4.0"), client.WithWorkerWeight(2), client.WithWorkerMetadata(map[string]string{"model": "large"}),
		client.WithMaxPackets(1))
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range relay.Settled() {
		fmt.Printf("%d %v: %s\n", s.GetSequence(), s.GetOutcome(), s.GetResult())
	}
	// Output:
	// model loaded
	// 1 DONE: {"fallback_used":true,"primary_error":"out of memory","result":"looks fine"}
}

// index stands for the work. What it writes elsewhere carries the token, so that
// a worker that was paused for too long is refused there.
func index(context.Context, []byte, uint64) error { return nil }

// A call is a packet, and what a worker of a group leaves with it. The same packet id
// again, from anywhere, gets the same answer.
func ExampleClient_Call() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, "127.0.0.1:7400")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	answer, err := c.Call(ctx, &client.Packet{RepoID: "acme/api", PacketID: "review-4711", Content: []byte("…")}, "review")
	var dead *client.DeadError
	switch {
	case errors.As(err, &dead):
		log.Fatalf("given up after %d attempts: %s", dead.Attempts, dead.LastError)
	case err != nil:
		log.Fatal(err)
	}
	fmt.Printf("%s\n", answer.Value)

	later, err := c.ResultID(ctx, "acme/api", "review-4711", "review")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(later.State, later.ExpiresAt)
}
