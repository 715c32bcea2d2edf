// Package crash has no code: its tests run the whole way in and out (relay,
// engine, both databases) on a file system that can lose power, at any sync point
// and with any part of what was not synced, and look whether what was acknowledged
// is there.
package crash
