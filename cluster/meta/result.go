package meta

import (
	"encoding/binary"

	"github.com/waystation/waystation/storage"
)

// append lays a result out, for the node that asked: version u8, refusal u8 (0
// for none), text, epoch u64, replica u64, group id u32, name, version u32,
// settings.
func (r *Result) append(b []byte) []byte {
	text := ""
	if r.Err != nil {
		text = cut(r.Err.Error(), maxResultText)
	}
	b = append(b, version1, codeOf(r.Err))
	b = appendBytes(b, []byte(text))
	b = binary.BigEndian.AppendUint64(b, r.Epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Replica))
	b = appendName(binary.BigEndian.AppendUint32(b, r.Group.ID), r.Group.Name)
	return appendBytes(binary.BigEndian.AppendUint32(b, r.Group.Version), r.Group.Settings)
}

const maxResultText = 4096

func parseResult(b []byte) (Result, error) {
	d := decode(b)
	code, text := d.u8(), string(d.bytes())
	r := Result{Err: errorOf(code, text), Epoch: d.u64(), Replica: storage.ReplicaID(d.u64())}
	r.Group = Group{ID: d.u32(), Name: d.name(), Version: d.u32(), Settings: d.bytes()}
	return r, d.end()
}
