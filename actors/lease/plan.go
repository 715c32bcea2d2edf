package lease

// Share is how many lanes to take from one partition.
type Share struct{ Partition, Lanes int }

// Plan appends how many lanes to take from each partition, want in all: those
// with lanes get equal shares, beginning with the partition at start, or the next
// one that has any. Whoever asks again should begin one further. ready is the
// number of lanes per partition.
func Plan(ready []int, want, start int, dst []Share) []Share {
	n := len(ready)
	if n == 0 || want <= 0 {
		return dst
	}
	active := 0
	for _, c := range ready {
		if c > 0 {
			active++
		}
	}
	if active == 0 {
		return dst
	}
	share := (want + active - 1) / active
	first := len(dst)
	for i := 0; i < n && want > 0; i++ {
		p := (start + i) % n
		if k := min(ready[p], share, want); k > 0 {
			dst = append(dst, Share{p, k})
			want -= k
		}
	}
	for i := first; i < len(dst) && want > 0; i++ { // what some could not fill
		k := min(ready[dst[i].Partition]-dst[i].Lanes, want)
		dst[i].Lanes += k
		want -= k
	}
	return dst
}
