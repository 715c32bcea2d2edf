package fakerelay

import "context"

// received reads a stream in a goroutine of its own, which ends with the stream or
// its context: what came, and at the end why no more does.
func received[T any](ctx context.Context, read func() (T, error)) (came <-chan T, failed <-chan error) {
	all, end := make(chan T), make(chan error, 1)
	go func() {
		for {
			x, err := read()
			if err != nil {
				end <- err
				return
			}
			select {
			case all <- x:
			case <-ctx.Done():
				return
			}
		}
	}()
	return all, end
}
