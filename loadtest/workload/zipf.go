package workload

import "math"

// zipf draws 0 to n-1 with weights 1/(i+1)^skew in constant time, by Vose's
// alias method. (math/rand's Zipf knows only exponents above 1.)
type zipf struct {
	keep  []float64
	alias []int32
}

func newZipf(n int, skew float64) *zipf {
	z := &zipf{keep: make([]float64, n), alias: make([]int32, n)}
	total := 0.0
	for i := range z.keep {
		z.keep[i] = math.Pow(float64(i+1), -skew)
		total += z.keep[i]
	}
	var small, large []int32
	for i := range z.keep {
		z.keep[i] *= float64(n) / total
		if z.keep[i] < 1 {
			small = append(small, int32(i))
		} else {
			large = append(large, int32(i))
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		z.alias[s] = l
		z.keep[l] -= 1 - z.keep[s]
		if z.keep[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	// What is left differs from 1 by rounding only.
	for _, i := range append(small, large...) {
		z.keep[i] = 1
	}
	return z
}

// pick maps a random 32-bit number and a random one from [0, 1) to an index.
func (z *zipf) pick(random uint32, coin float64) int {
	i := scale(random, uint32(len(z.keep)))
	if coin < z.keep[i] {
		return int(i)
	}
	return int(z.alias[i])
}
