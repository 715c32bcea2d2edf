//go:build planted

package invariant

var planted Bug

// Plant breaks one rule from now on; "" mends it. It is for a test with one
// goroutine.
func Plant(b Bug) { planted = b }

// Broken says whether the bug is planted.
func Broken(b Bug) bool { return planted == b }
