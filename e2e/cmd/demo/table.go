package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"ferry/pkg/contract"
)

// table prints a line for each STAGE=FILE. A stage begins when its predecessor
// has written its document, so the time between two files is the stage's;
// "=FILE" starts the clock with FILE.
func table(args []string, out io.Writer) error {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "STAGE\tSECONDS\tDOCUMENT\tWHAT IT SAYS")
	var begin time.Time
	for _, arg := range args {
		stage, file, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is not STAGE=FILE", arg)
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		if stage != "" {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			says, err := summary(text)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			fmt.Fprintf(tw, "%s\t%.2f\t%s\t%s\n", stage, info.ModTime().Sub(begin).Seconds(), file, says)
		}
		begin = info.ModTime()
	}
	return tw.Flush()
}

// summary says in a few words what a document says.
func summary(text []byte) (string, error) {
	kind, err := contract.Sniff(text)
	if err != nil {
		return "", err
	}
	switch kind {
	case contract.KindCatalog:
		return say(text, func(s contract.CatalogSpec) string {
			tags := 0
			for _, r := range s.Repositories {
				tags += len(r.Tags)
			}
			return fmt.Sprintf("%d repositories with %d tags, %d channels", len(s.Repositories), tags, len(s.Channels))
		})
	case contract.KindSelection:
		return say(text, func(s contract.SelectionSpec) string {
			return fmt.Sprintf("%d images by tag, for %d archives", len(s.Images), len(s.Archives))
		})
	case contract.KindPlan:
		return say(text, func(s contract.PlanSpec) string { return contentsSummary(&s.Contents) })
	case contract.KindInventory:
		return say(text, func(s contract.InventorySpec) string {
			return contentsSummary(&s.Contents) + ", in " + string(s.Store.Type)
		})
	case contract.KindBundle:
		return say(text, func(s contract.BundleSpec) string {
			var size int64
			files := 0
			for _, a := range s.Archives {
				size += a.Size
				files += len(a.Files)
			}
			return fmt.Sprintf("%d archives in %d files, %.1f MB", len(s.Archives), files, megabytes(size))
		})
	case contract.KindReceipt:
		return say(text, func(s contract.ReceiptSpec) string {
			return fmt.Sprintf("%d tags stand at %s, %d skipped", len(s.Tags), s.Target, len(s.Skipped))
		})
	}
	return string(kind), nil
}

func say[S any, P contract.SpecOf[S]](text []byte, words func(S) string) (string, error) {
	doc, err := contract.Decode[S, P](text)
	if err != nil {
		return "", err
	}
	return words(doc.Spec), nil
}

func contentsSummary(c *contract.Contents) string {
	var size int64
	for _, b := range c.Blobs {
		size += b.Size
	}
	return fmt.Sprintf("%d tags, %d manifests, %d blobs of %.1f MB", len(c.Images), len(c.Manifests), len(c.Blobs), megabytes(size))
}

func megabytes(n int64) float64 { return float64(n) / 1e6 }
