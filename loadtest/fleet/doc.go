// Package fleet runs the load test's own nodes as real processes, so that a
// kill is a real kill, and does to them what the faults ask for: one at a time
// is killed, paused, slowed or cut off the others; a power loss hits all at once.
package fleet
