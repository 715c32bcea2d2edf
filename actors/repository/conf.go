package repository

// ApplyConf applies an entry that changes which replicas the partition has:
// nothing but the applied index and conf, which is opaque here.
func (m *Machine) ApplyConf(index uint64, conf []byte, eff *Effects) error {
	if err := m.Apply(index, 0, nil, eff); err != nil {
		return err
	}
	eff.set(m.keyMeta(metaConf), conf)
	return nil
}

// ConfKey is the key of what ApplyConf stored.
func (m *Machine) ConfKey() []byte { return cloneKey(m.keyMeta(metaConf)) }

// KeyRange bounds all keys of the partition: [lower, upper).
func (m *Machine) KeyRange() (lower, upper []byte) { return KeyRange(m.part) }

// KeyRange bounds all keys of partition p: [lower, upper).
func KeyRange(p PartitionID) (lower, upper []byte) {
	lower = []byte{byte(p >> 8), byte(p)}
	return lower, keyAfter(lower)
}

// PositionKeys are the keys of the applied index and of what ApplyConf stored of
// partition p: what there is to know of its place in the log without a Machine.
func PositionKeys(p PartitionID) (applied, conf []byte) {
	lower, _ := KeyRange(p)
	return append(append([]byte{}, lower...), tableMeta, metaApplied), append(append([]byte{}, lower...), tableMeta, metaConf)
}
