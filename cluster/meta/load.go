package meta

import (
	"errors"
	"slices"

	"github.com/waystation/waystation/storage"
)

// corrupt names a record that cannot be read; it is never skipped.
func corrupt(key []byte, what string, err error) error {
	if err == nil {
		return nil
	}
	return &storage.CorruptError{Store: "state", Key: append([]byte(nil), key...), What: "meta " + what, Err: err}
}

func readApplied(r storage.Reader) (uint64, error) {
	k := key(tableApplied)
	b, err := r.Get(k)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	index, err := parseApplied(b)
	return index, corrupt(k, "applied index", err)
}

func readConf(r storage.Reader) ([]byte, error) {
	b, err := r.Get(key(tableConf))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	return b, err
}

func readView(r storage.Reader) (*View, error) {
	v := &View{}
	k := key(tableCluster)
	b, err := r.Get(k)
	if err == nil {
		v.Cluster, err = parseCluster(b)
		err = corrupt(k, "cluster", err)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return v, nil
	}
	err = errors.Join(err,
		scan(r, tableNode, "node", &v.Nodes, parseNode),
		scan(r, tableReplica, "replica", &v.Replicas, parseReplica),
		scan(r, tablePlacement, "placement", &v.Placements, parsePlacement),
		scan(r, tableOperation, "operation", &v.Operations, parseOperation),
		scan(r, tableGroup, "group", &v.Groups, parseGroup))
	slices.SortFunc(v.Replicas, compareReplicas)
	return v, err
}

// scan reads a table in the order of its keys, which is the order of the ids.
func scan[T any](r storage.Reader, table byte, what string, out *[]T, parse func(k, v []byte) (T, error)) error {
	var bad error
	err := r.Scan(key(table), tableEnd(table), func(k, v []byte) bool {
		x, err := parse(k, v)
		if bad = corrupt(k, what, err); bad != nil {
			return false
		}
		*out = append(*out, x)
		return true
	})
	return errors.Join(bad, err)
}
