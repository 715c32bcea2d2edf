package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/waystation/waystation/messages/wire"
)

// publish takes one packet: as JSON, or as a body that is the content.
func (h *HTTP) publish(w http.ResponseWriter, r *http.Request, p params) error {
	packet, release, err := h.onePacket(w, r, p.repo)
	if err != nil {
		return err
	}
	outcomes, err := h.offer(r, []wire.PacketFields{packet}, release)
	if err != nil {
		return err
	}
	if outcomes[0].err != nil {
		return outcomes[0].err
	}
	h.write(w, http.StatusOK, outcomes[0].json(&packet).Receipt)
	return nil
}

// checkSize finds what is too large before the relay does, which knows no status
// of its own for it.
func (h *HTTP) checkSize(p *wire.PacketFields) error {
	if n := len(p.Content); n > h.calls.limits.Content {
		return bodyTooLarge("content", int64(h.calls.limits.Content))
	}
	metadata := 0
	for k, v := range p.Metadata {
		metadata += len(k) + len(v)
	}
	if metadata > h.calls.limits.MetadataBytes {
		return bodyTooLarge("metadata", int64(h.calls.limits.MetadataBytes))
	}
	return nil
}

// publishMany takes packets of any repositories. Each is answered for itself.
func (h *HTTP) publishMany(w http.ResponseWriter, r *http.Request, _ params) error {
	body, release, err := h.readJSONBody(w, r, "packets")
	if err != nil {
		return err
	}
	var packets []wire.PacketFields
	if fault := readJSON(body, func(in *jsonReader) { packets = in.packets(h.calls.limits.FramePackets) }); fault != nil {
		release()
		return fault
	}
	if len(packets) == 0 {
		release()
		return invalid("packets", "is empty: send at least one packet")
	}
	outcomes, err := h.offer(r, packets, release)
	if err != nil {
		return err
	}
	out := jsonResults{Results: make([]jsonResult, len(outcomes))}
	for i := range outcomes {
		out.Results[i] = outcomes[i].json(&packets[i])
	}
	h.write(w, http.StatusOK, out)
	return nil
}

// offer encodes packets as a gRPC client would have sent them. release is called
// once the relay needs them no more.
func (h *HTTP) offer(r *http.Request, packets []wire.PacketFields, release func()) ([]outcome, error) {
	size := 0
	for i := range packets {
		size += wire.SizePacket(&packets[i]) + 16
	}
	if len(packets) > 1 && size > h.calls.limits.FrameBytes {
		release()
		return nil, tooLarge("packets", fmt.Sprintf("are %d bytes together, at most %d are allowed in one request: split it",
			size, h.calls.limits.FrameBytes))
	}
	frame := make([]byte, 0, size)
	for i := range packets {
		frame = wire.AppendFramePacket(frame, &packets[i])
	}
	views, err := h.calls.limits.WalkFrame(frame, make([]wire.Packet, 0, len(packets)))
	if err != nil {
		release()
		return nil, err
	}
	return h.calls.publish(r.Context(), views, size, release)
}

func (h *HTTP) jsonPacket(w http.ResponseWriter, r *http.Request, repo string) (p wire.PacketFields, release func(), err error) {
	body, release, err := h.readJSONBody(w, r, "content")
	if err != nil {
		return p, nil, err
	}
	if fault := readJSON(body, func(in *jsonReader) { in.packet(&p) }); fault != nil {
		release()
		return p, nil, fault
	}
	if p.RepoID != "" && p.RepoID != repo {
		release()
		return p, nil, invalid("repo_id", strconv.Quote(p.RepoID)+" is not the path's "+strconv.Quote(repo)+": leave it out, or send to /v1/packets")
	}
	p.RepoID = repo
	return p, release, nil
}

// readJSONBody reads a JSON body: its contents grow by a third in base64.
func (h *HTTP) readJSONBody(w http.ResponseWriter, r *http.Request, field string) ([]byte, func(), error) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, nil, invalid("Content-Encoding", strconv.Quote(encoding)+": JSON is not taken compressed; content_encoding says how the content is")
	}
	limit := int64(h.calls.limits.Content)/3*4 + int64(h.calls.limits.Overhead)*4
	return h.readBody(w, r, limit, field)
}

func (h *HTTP) rawPacket(w http.ResponseWriter, r *http.Request, repo string) (p wire.PacketFields, release func(), err error) {
	p.RepoID = repo
	if err := packetHeaders(r.Header, &p); err != nil {
		return p, nil, err
	}
	p.Content, release, err = h.readBody(w, r, int64(h.calls.limits.Content), "content")
	return p, release, err
}

const (
	headerPrefix = "Waystation-"
	metaPrefix   = "Waystation-Meta-"
)

// packetHeaders reads what a raw body's headers say of the packet. A
// Waystation- header that is not known is a fault: a slip of the pen should not
// cost a packet its id.
func packetHeaders(header http.Header, p *wire.PacketFields) error {
	for name, values := range header {
		if !strings.HasPrefix(name, headerPrefix) {
			continue
		}
		if len(values) > 1 {
			return invalid(name, "is there more than once")
		}
		if err := packetHeader(name, values[0], p); err != nil {
			return err
		}
	}
	p.Traceparent = header.Get("Traceparent")
	encoding, err := encodingOf(header.Get("Content-Encoding"))
	p.Encoding = encoding
	return err
}

func packetHeader(name, value string, p *wire.PacketFields) (err error) {
	if key, ok := strings.CutPrefix(name, metaPrefix); ok {
		if key == "" {
			return invalid(name, "names no metadata: write Waystation-Meta-Branch: main")
		}
		if p.Metadata == nil {
			p.Metadata = make(map[string]string)
		}
		// Header names have no case, and proxies change it: metadata names from
		// headers are lower case.
		p.Metadata[strings.ToLower(key)] = value
		return nil
	}
	switch name[len(headerPrefix):] {
	case "Packet-Id":
		p.PacketID = value
	case "Kind":
		p.Kind = value
	case "Priority":
		p.Priority, err = enumHeader("priority", value, priorityNames)
	case "Time-To-Live":
		p.TimeToLive, err = durationHeader("time_to_live", value)
	case "Deliver-After":
		p.DeliverAfter, err = durationHeader("deliver_after", value)
	case "Content-Crc32c":
		var crc uint64
		crc, err = numberHeader("content_crc32c", value, 32)
		p.HasCRC, p.CRC = true, uint32(crc)
	default:
		return invalid(name, "is not a header that this call knows")
	}
	return err
}

func enumHeader(field, value string, names []string) (uint8, error) {
	for i, name := range names {
		if strings.EqualFold(value, name) || value == strconv.Itoa(i) {
			return uint8(i), nil
		}
	}
	return 0, invalid(field, fmt.Sprintf("%.40q is unknown: want %s", value, strings.Join(names, ", ")))
}

func encodingOf(header string) (uint8, error) {
	switch value := strings.ToLower(strings.TrimSpace(header)); value {
	case "":
		return 0, nil
	case "x-gzip":
		return 1, nil
	default:
		return enumHeader("content_encoding", value, encodingNames)
	}
}

func durationHeader(field, value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil {
		return 0, invalid(field, fmt.Sprintf("%.40q: want a duration such as 90s or 1h30m", value))
	}
	return d, nil
}

func numberHeader(field, value string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(value, 10, bits)
	if err != nil {
		return 0, invalid(field, fmt.Sprintf("%.40q: want a whole number", value))
	}
	return n, nil
}
