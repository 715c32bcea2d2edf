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
func (m *Machine) KeyRange() (lower, upper []byte) {
	p := uint32(m.part)
	return []byte{byte(p >> 8), byte(p)}, keyAfter([]byte{byte(p >> 8), byte(p)})
}
