package actors

// asking is the credit of a session without any of its own: it gets it packet by
// packet from whoever asks, and gives back at once what it has no packet for.
type asking struct {
	on       bool
	open     int  // asked for, and neither reserved nor given back
	returned int  // given back, and not told yet
	ready    bool // lanes are ready, and not told yet
	told     bool // since the last ask
}

// giveBack returns what is open, and says whether that is anything to tell.
func (a *asking) giveBack() bool {
	a.returned += a.open
	a.open = 0
	return a.returned > 0
}

// Ask asks a session that was opened with Ask for up to n packets. What is ready is
// handed out by Take; for the rest of the ask Notes says that it is returned, once
// it is known that there is no more. Asking for 0 says that the worker takes no
// more at the moment: what is ready is another's then. It does not block, and does not
// call Notify itself.
func (h *Session) Ask(n uint32) {
	s := h.s
	s.mu.Lock()
	if s.handle != h || !s.asking.on {
		s.mu.Unlock()
		return
	}
	s.credit.Alive()
	s.asking.open += int(min(n, uint32(s.g.d.cfg.MaxCredit)))
	s.asking.told = n == 0
	if s.draining {
		s.asking.giveBack() // which the pump tells
	}
	s.mu.Unlock()
	s.poke()
}

// Notes says how much of what was asked for is given back, and whether lanes are
// ready though nothing is asked for: that is said once until the next ask. Ready
// signals when there is something new.
func (h *Session) Notes() (returned int, ready bool) {
	s := h.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handle != h {
		return 0, false
	}
	returned, ready = s.asking.returned, s.asking.ready
	s.asking.returned, s.asking.ready = 0, false
	return returned, ready
}

// Redelivered is how many packets the session gets again, that its worker held when
// it was opened. They are not asked for.
func (h *Session) Redelivered() int { return h.again }

// reserve takes up to most of the session's credit. The caller holds s.mu.
func (s *session) reserve(most int) (n int) {
	if !s.asking.on {
		return s.credit.Reserve(min(s.credit.Free(), most))
	}
	n = min(s.asking.open, most)
	s.asking.open -= n
	s.credit.Hold(n)
	return n
}

// unspent gives credit back to the ask that it came of, if by is the handle that
// asked and still there. The caller holds s.mu, and has the pump look after it.
func (s *session) unspent(by *Session, n int) {
	if n <= 0 || !s.asking.on || by == nil || by != s.handle {
		return
	}
	s.asking.open += n
	if s.draining {
		s.asking.giveBack()
	}
}

// giveBack is unspent for packets of a lease that will not be handed out any more.
// The caller holds s.mu.
func (s *session) giveBack(l *openLease, n int) {
	by := l.by
	l.by = nil // what is handed out of it later was not asked for
	if n > 0 && s.asking.on && by == s.handle {
		s.unspent(by, n)
		s.poked = true
		s.run()
	}
}

// missed is unspent for n packets that were about to be handed out and could not be.
func (s *session) missed(h *Session, n int) {
	s.mu.Lock()
	s.unspent(h, n)
	s.mu.Unlock()
	s.poke()
}

// giveAskBack returns what is asked for and not there. While a partition has not
// said yet which lanes it has, that is kept: its first word wakes the session.
func (s *session) giveAskBack() {
	s.mu.Lock()
	if !s.asking.on || s.asking.open == 0 {
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	if !s.g.warm() { // asked after the session waits
		return
	}
	s.mu.Lock()
	h, told := s.handle, s.asking.giveBack()
	s.mu.Unlock()
	if told && h != nil {
		h.signal()
	}
}

// tellReturned signals when something is given back that nobody was told of.
func (s *session) tellReturned() {
	s.mu.Lock()
	h, told := s.handle, s.asking.returned > 0
	s.mu.Unlock()
	if told && h != nil {
		h.signal()
	}
}

// asks says whether the session is to be told of lanes that turn ready.
func (s *session) asks() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asking.on && !s.asking.told && s.handle != nil && !s.draining
}

// tellReady says that lanes are ready, if the session is one to be asked and has
// not been told since; false: it is another's turn.
func (s *session) tellReady() bool {
	s.mu.Lock()
	h := s.handle
	if !s.asking.on || s.asking.told || h == nil || s.draining {
		s.mu.Unlock()
		return false
	}
	s.asking.told, s.asking.ready = true, true
	s.mu.Unlock()
	h.signal()
	return true
}

// nudge wakes a session for lanes that are ready for longer: one that was told may
// have gone without an answer.
func (k *keeper) nudge() {
	k.mu.Lock()
	k.nudged = k.nudged[:0]
	for _, w := range k.windows {
		if w.total > 0 {
			k.nudged = append(k.nudged, w.g)
		}
	}
	k.mu.Unlock()
	for _, g := range k.nudged {
		g.wake(1)
	}
}
