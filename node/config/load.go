package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
	yaml "go.yaml.in/yaml/v3"
)

// Load reads the settings from args, the environment and the settings file, over
// Default. It joins all faults, each naming where the value came from; it does
// not Validate. What args hold beyond flags is a fault. pflag.ErrHelp comes back
// as it is.
func Load(args []string, getenv func(string) (string, bool)) (Config, error) {
	c := Default()
	flags := newSet()
	flags.Usage = func() {}
	for _, g := range c.Groups() {
		flags.AddFlagSet(g.Flags)
	}
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if rest := flags.Args(); len(rest) > 0 {
		return c, fmt.Errorf("unknown argument %q: see --help", rest[0])
	}
	l := loader{flags: flags, set: make(map[string]bool)}
	flags.Visit(func(f *pflag.Flag) { l.set[f.Name] = true })
	l.environment(getenv)
	if c.File != "" {
		l.file(c.File)
	}
	c.given = l.set
	if c.Name == "" {
		c.Name = HostName()
	}
	return c, errors.Join(l.errs...)
}

type loader struct {
	flags *pflag.FlagSet
	set   map[string]bool // by something that comes first
	errs  []error
}

func (l *loader) environment(getenv func(string) (string, bool)) {
	l.flags.VisitAll(func(f *pflag.Flag) {
		if l.set[f.Name] {
			return
		}
		// An empty variable is how shells and compose files say "not set".
		if v, ok := getenv(variable(f.Name)); ok && v != "" {
			l.put(f, v, variable(f.Name))
		}
	})
}

func (l *loader) file(path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		l.errs = append(l.errs, fmt.Errorf("--config: read settings: %w", err))
		return
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		l.errs = append(l.errs, fmt.Errorf("--config: parse %s: %w", path, err))
		return
	}
	if len(doc.Content) == 0 {
		return
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		l.errs = append(l.errs, fmt.Errorf("--config: parse %s: want lines such as `http: 127.0.0.1:7401`", path))
		return
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		l.setting(path, root.Content[i], root.Content[i+1])
	}
}

func (l *loader) setting(path string, key, value *yaml.Node) {
	source := fmt.Sprintf("%s:%d", path, key.Line)
	name := strings.ReplaceAll(key.Value, "_", "-")
	f := l.flags.Lookup(name)
	switch {
	case f == nil || name == "config":
		l.errs = append(l.errs, fmt.Errorf("%s: unknown setting %q: settings are the flags of --help, without the dashes in front", source, key.Value))
	case value.Kind != yaml.ScalarNode:
		l.errs = append(l.errs, fmt.Errorf("%s: setting %q: want one value", source, key.Value))
	case l.set[name]:
	default:
		l.put(f, value.Value, source)
	}
}

func (l *loader) put(f *pflag.Flag, value, source string) {
	l.set[f.Name] = true
	if err := f.Value.Set(value); err != nil {
		l.errs = append(l.errs, fmt.Errorf("%s: --%s: %w", source, f.Name, err))
	}
}

// HostName is the name of a node that was given none: the host's.
func HostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "node"
	}
	return name
}

// Usage is the text of the serving flags, in groups.
func Usage() string {
	c := Default()
	var b strings.Builder
	for _, g := range c.Groups() {
		fmt.Fprintf(&b, "%s:\n%s\n", g.Title, g.Flags.FlagUsagesWrapped(110))
	}
	return b.String()
}
