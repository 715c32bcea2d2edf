package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// EndpointsFile is the name of the endpoints file in a data folder.
const EndpointsFile = "endpoints.json"

// Addresses are where a node listens, as host:port.
type Addresses struct {
	GRPC   string `json:"grpc"`
	HTTP   string `json:"http"`
	Gossip string `json:"gossip,omitempty"`
	Peer   string `json:"peer,omitempty"`
}

// Endpoints is what a running node tells local tools.
type Endpoints struct {
	PID       int       `json:"pid"`
	Name      string    `json:"name"`
	Cluster   string    `json:"cluster_name"`
	NodeID    string    `json:"node_id"`
	Version   string    `json:"version"`
	DataDir   string    `json:"data_dir"` // absolute
	Addresses Addresses `json:"addresses"`
	StartedAt time.Time `json:"started_at"`
}

// WriteEndpoints puts e into its data folder, so that a reader sees all of it or
// nothing.
func WriteEndpoints(e *Endpoints) error {
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("encode endpoints: %w", err)
	}
	path := filepath.Join(e.DataDir, EndpointsFile)
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write endpoints: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write endpoints: %w", err)
	}
	return nil
}

// ReadEndpoints reads dir's endpoints file. The node that wrote it may be gone.
func ReadEndpoints(dir string) (*Endpoints, error) {
	path := filepath.Join(dir, EndpointsFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read endpoints: %w", err)
	}
	var e Endpoints
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	return &e, nil
}

// RemoveEndpoints deletes dir's endpoints file if it is that of pid.
func RemoveEndpoints(dir string, pid int) error {
	e, err := ReadEndpoints(dir)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && e.PID != pid) {
		return nil
	}
	if err := os.Remove(filepath.Join(dir, EndpointsFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove endpoints: %w", err)
	}
	return nil
}

// FindEndpoints reads the endpoints files of the default data folder and of the
// data folders right below dir.
func FindEndpoints(dir string) []*Endpoints {
	paths := []string{filepath.Join(dir, EndpointsFile)}
	if more, err := filepath.Glob(filepath.Join(dir, "*", EndpointsFile)); err == nil {
		paths = append(paths, more...)
	}
	var found []*Endpoints
	for _, p := range paths {
		if e, err := ReadEndpoints(filepath.Dir(p)); err == nil && e.Addresses.GRPC != "" {
			found = append(found, e)
		}
	}
	return found
}
