package gossip

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	keyFileBytes = 64 << 10
	maxKeys      = 16
)

// LoadKeys reads a key file: one key a line in base64, of 16, 24 or 32 bytes;
// empty lines and lines that begin with # are passed over. The first key
// encrypts, every one decrypts. There is at least one, and no key twice.
func LoadKeys(path string) ([][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read gossip keys: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, keyFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read gossip keys: %w", err)
	}
	if len(data) > keyFileBytes {
		return nil, fmt.Errorf("read gossip keys: %s is larger than %d bytes", path, keyFileBytes)
	}
	keys, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("read gossip keys: %s: %w", path, err)
	}
	return keys, nil
}

func parseKeys(data []byte) ([][]byte, error) {
	var keys [][]byte
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			return nil, fmt.Errorf("line %d is not base64", n) // the line itself is a secret
		}
		if memberlist.ValidateKey(key) != nil {
			return nil, fmt.Errorf("line %d: a key of %d bytes, want 16, 24 or 32", n, len(key))
		}
		if holds(keys, key) {
			return nil, fmt.Errorf("line %d repeats a key", n)
		}
		keys = append(keys, key)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, errors.New("no key in it")
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("%d keys, %d at most", len(keys), maxKeys)
	}
	return keys, nil
}

func holds(keys [][]byte, key []byte) bool {
	return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
}

// ReloadKeys reads the key file again and takes its keys, without a moment in
// which a key that is in both files would not decrypt. On an error the old keys
// stay. To rotate keys without losing a message, change the file of every node
// and reload it, three times: with the new key below the old one; with the new
// one first; without the old one.
func (g *Gossip) ReloadKeys() error {
	if g.ring == nil {
		return errors.New("reload gossip keys: this node was started without a key file; start it again with one")
	}
	keys, err := LoadKeys(g.config.KeyFile)
	if err != nil {
		return err
	}
	g.ringLock.Lock()
	defer g.ringLock.Unlock()
	before := g.ring.GetKeys()
	if !slices.ContainsFunc(keys, func(k []byte) bool { return holds(before, k) }) {
		// Nobody that has the old keys could be read, or could read this node.
		return fmt.Errorf("reload gossip keys: %s has none of the keys that are in use: keep the old one in it until every node has the new one", g.config.KeyFile)
	}
	if !holds(before, keys[0]) {
		g.log.Warn("the first gossip key is new here: nodes that don't have it yet can't read this one",
			"file", g.config.KeyFile)
	}
	if err := setKeys(g.ring, keys); err != nil {
		return fmt.Errorf("reload gossip keys: %w", err)
	}
	g.metrics.keyLoads.Inc()
	g.log.Info("gossip keys reloaded", "keys", len(keys), "before", len(before))
	return nil
}

// keysAgain is how often the key file is looked at for other keys.
const keysAgain = 2 * time.Second

// rereading takes the keys of a file that changed, until Stop: so that keys are
// rotated by writing files alone, on systems without signals too, and where an
// orchestrator replaces a mounted secret. What is wrong with a file is said once.
func (g *Gossip) rereading(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-tick.C:
		}
		keys, err := LoadKeys(g.config.KeyFile)
		if err == nil && g.holdsJust(keys) {
			said = ""
			continue
		}
		if err == nil {
			err = g.ReloadKeys() // reads once more: it may be half written
		}
		if err == nil {
			said = ""
			continue
		}
		if err.Error() != said {
			said = err.Error()
			g.metrics.keyErrors.Inc()
			g.log.Error("the gossip keys stay as they were: mend the key file", "err", err)
		}
	}
}

// holdsJust says whether the ring has these keys, the first of them first, and no
// other.
func (g *Gossip) holdsJust(keys [][]byte) bool {
	now := g.ring.GetKeys()
	return len(now) == len(keys) && bytes.Equal(now[0], keys[0]) &&
		!slices.ContainsFunc(keys, func(k []byte) bool { return !holds(now, k) })
}

// setKeys adds, chooses the first, drops: in this order.
//
// memberlist's RemoveKey moves the keys behind the removed one within the slice
// that readers are walking over. Removing the last key moves nothing; so what
// stands behind an old key is taken off with it and put back.
func setKeys(ring *memberlist.Keyring, keys [][]byte) error {
	for _, k := range keys {
		if err := ring.AddKey(k); err != nil {
			return err
		}
	}
	if err := ring.UseKey(keys[0]); err != nil {
		return err
	}
	for {
		now := ring.GetKeys()
		if !slices.ContainsFunc(now, func(k []byte) bool { return !holds(keys, k) }) {
			break
		}
		if err := ring.RemoveKey(now[len(now)-1]); err != nil {
			return err
		}
	}
	for _, k := range keys {
		if err := ring.AddKey(k); err != nil {
			return err
		}
	}
	return nil
}
