package storage

// FixNonces lets a log's files get their nonces in a fixed order, so that a test always sees the same
// bytes.
func FixNonces(c *LogConfig, first uint64) {
	next := first
	c.nonce = func() uint64 {
		next = next*6364136223846793005 + 1442695040888963407
		return next
	}
}
