//go:build !linux

package fleet

// read knows nothing here: the figures are left out.
func read(int) (sample, bool) { return sample{}, false }
