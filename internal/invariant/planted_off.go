//go:build !planted

package invariant

// Broken says whether the bug is planted: never.
func Broken(Bug) bool { return false }
