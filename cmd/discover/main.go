// Command ferry-discover writes down what a source registry offers: a Catalog.
//
// It decides nothing. A policy only keeps it from looking where nobody will; a
// Catalog made without one serves any later select.
package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"ferry/cmd/internal/connect"
	"ferry/cmd/internal/content"
	"ferry/cmd/internal/policy"
	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/deckhouse/discovery"
	"ferry/pkg/deckhouse/modulesource"
	"ferry/pkg/fault"
	"ferry/pkg/generic"
	"ferry/pkg/registry"
	"ferry/pkg/stage"
	"ferry/pkg/transfer"
)

type flags struct {
	Deckhouse struct {
		storeFlag
		policy.Deckhouse
		connect.SourceFlags
	} `cmd:"" help:"Look at an edition of the Deckhouse Kubernetes Platform."`
	Modules struct {
		ModuleSource string `arg:"" name:"module-source" help:"The ModuleSource in YAML, as it is given to a cluster; - is stdin."`
		storeFlag
		ModulesFilter   string `placeholder:"NAME:TAG[;NAME:TAG]" help:"Look only at these modules; ferry-select needs the same filter."`
		WriteConnection string `placeholder:"FILE" help:"Write how the registry is reached to FILE, which its owner alone can read, for --connection of ferry-fetch. It holds the password: remove it."`
		connect.Flags
	} `cmd:"" help:"Look at the repository of modules that a ModuleSource of Deckhouse names. The ModuleSource tells the login, too."`
	Generic struct {
		List string `arg:"" optional:"" default:"-" help:"The list of images; - is stdin, the default."`
		connect.SourceFlags
	} `cmd:"" help:"Read a list of images: a line HOST/PATH:TAG, HOST/PATH@sha256:HEX or HOST/PATH@CONSTRAINT each, optionally with TARGET/PATH[:TAG] behind it, and # comments."`
}

// storeFlag is for what reads images.
type storeFlag struct {
	Store string `placeholder:"DIR" help:"Keep in DIR, the content store of ferry-fetch, what is read of images: then fetch does not download it again, nor does the next discover."`
}

const description = `
Reads tag lists, release channels and the contracts of plugins of a source registry, and writes a Catalog: what there is. ferry-select decides over it what to carry, without a network.

The deckhouse flags that say what to carry are those of ferry-select. Here they only narrow where to look: a Catalog made without them tells all but whether a pinned tag is there.

The Catalog has the digest of each image that was read, and ferry-fetch asks for exactly that one, wherever its tag has moved.

    ferry-discover deckhouse --source registry.deckhouse.ru/deckhouse/ee --store /var/ferry -o catalog.json
    ferry-discover modules ms.yml --write-connection connection.json -o catalog.json
    ferry-discover generic images.txt | ferry-select | ferry-fetch --store /var/ferry | ferry-pack /media/disk
`

func main() {
	f := &flags{}
	stage.Main(stage.Command{
		Name:        "discover",
		Summary:     "Write down what a source registry offers",
		Description: description,
		Environment: connect.SourceEnvironment(),
		Writes:      []contract.Kind{contract.KindCatalog},
		Flags:       f,
		Run:         f.run,
	})
}

// run has one entry a kind of source.
func (f *flags) run(ctx context.Context, s *stage.Session) error {
	return map[string]func(context.Context, *stage.Session) error{
		deckhouse.Vendor: f.deckhouse,
		"modules":        f.modules,
		generic.Vendor:   f.generic,
	}[s.Verb](ctx, s)
}

func (f *flags) deckhouse(ctx context.Context, s *stage.Session) error {
	p, err := f.Deckhouse.Read()
	if err != nil {
		return err
	}
	if p.Source == "" {
		p.Source = deckhouse.DefaultSource
	}
	s.Summary.Title, s.Summary.From = "Discovery", p.Source
	inputs, err := stage.InputsOf(p)
	if err != nil {
		return err
	}
	return stage.Produce(ctx, s, stage.Product[contract.CatalogSpec]{
		Inputs: inputs,
		Tell: func(spec *contract.CatalogSpec) {
			s.Summary.State = fmt.Sprintf("complete: %d repositories were looked at", len(spec.Repositories))
		},
		Make: func(ctx context.Context) (contract.CatalogSpec, error) {
			client, err := f.Deckhouse.Client(ctx, s, connect.HostOf([]string{p.Source}))
			if err != nil {
				return contract.CatalogSpec{}, err
			}
			defer client.Close()
			return discover(ctx, s, client, p, f.Deckhouse.storeFlag, f.Deckhouse.Flags)
		},
	})
}

// modules looks at a repository of modules (S8.2). The stages behind this one
// know no ModuleSource: for them its connection is written down.
func (f *flags) modules(ctx context.Context, s *stage.Session) error {
	text, err := s.Text(ctx, f.Modules.ModuleSource, "ModuleSource")
	if err != nil {
		return err
	}
	source, err := modulesource.Parse(text.Data)
	if err != nil {
		return fault.About(text.Name, err)
	}
	if len(source.Others) > 0 {
		s.Log.Warn("the dockerCfg has no login for the registry, so it is read without one",
			"registry", source.Repository.Host, "loginsFor", strings.Join(source.Others, " "))
	}
	p := deckhouse.Policy{Source: source.Repository.String(), ModuleSource: true, ModulesFilter: f.Modules.ModulesFilter}
	if err := p.Validate(); err != nil {
		return err
	}
	inputs, err := stage.InputsOf(p)
	if err != nil {
		return err
	}
	connection := &connect.Connection{
		Host: source.Repository.Host, PlainHTTP: source.PlainHTTP, CA: source.CA, Login: source.Login, Password: source.Password,
	}
	if f.Modules.WriteConnection != "" {
		if err := connection.Write(f.Modules.WriteConnection); err != nil {
			return err
		}
	}
	return stage.Produce(ctx, s, stage.Product[contract.CatalogSpec]{
		Inputs: inputs,
		Make: func(ctx context.Context) (contract.CatalogSpec, error) {
			client, err := f.Modules.Connect(s, connection)
			if err != nil {
				return contract.CatalogSpec{}, err
			}
			defer client.Close()
			return discover(ctx, s, client, p, f.Modules.storeFlag, f.Modules.Flags)
		},
	})
}

// discover looks at the source, through the store where there is one. The store
// is free again before the Catalog is out: in a pipe, fetch waits for that.
func discover(ctx context.Context, s *stage.Session, source registry.Source, p deckhouse.Policy, through storeFlag, connection connect.Flags) (contract.CatalogSpec, error) {
	s.Progress.Phase("discovering")
	opts := discovery.Options{Parallel: connection.InFlight(), Log: s.Log}
	if through.Store == "" {
		return discovery.Discover(ctx, source, p, opts)
	}
	st, err := content.OpenStore(ctx, s, through.Store)
	if err != nil {
		return contract.CatalogSpec{}, err
	}
	spec, err := discovery.Discover(ctx, transfer.NewStoredSource(source, st, connection.Retry(), s.Log), p, opts)
	if closeErr := st.Close(); err == nil {
		err = closeErr // what is not durable is not there
	}
	return spec, err
}

func (f *flags) generic(ctx context.Context, s *stage.Session) error {
	if err := f.Generic.ReadPassword(ctx, s); err != nil {
		return err
	}
	list, err := s.Text(ctx, f.Generic.List, "list of images")
	if err != nil {
		return err
	}
	items, err := generic.ParseList(bytes.NewReader(bytes.TrimPrefix(list.Data, []byte("\ufeff"))))
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return fault.Newf(fault.Usage, list.Name, "the list names no image")
	}
	lines := make([]string, len(items))
	for i, item := range items {
		lines[i] = item.Text
	}
	s.Summary.Title, s.Summary.From = "Discovery", list.Name
	inputs, err := stage.InputsOf(lines)
	if err != nil {
		return err
	}
	return stage.Produce(ctx, s, stage.Product[contract.CatalogSpec]{
		Inputs: inputs,
		Tell: func(spec *contract.CatalogSpec) {
			s.Summary.State = fmt.Sprintf("complete: %d repositories were looked at", len(spec.Repositories))
		},
		Make: func(ctx context.Context) (contract.CatalogSpec, error) {
			client, err := f.Generic.Client(ctx, s, connect.HostOf(lines))
			if err != nil {
				return contract.CatalogSpec{}, err
			}
			defer client.Close()
			return generic.Discover(ctx, client, items, f.Generic.InFlight())
		},
	})
}
