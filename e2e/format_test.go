package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ferry/e2e/edition"
)

// This file is a reader of archives that knows the rules of S6 and S7.10, and
// d8's way of reading (S7.4, S7.5), and shares no code with the product: what it
// accepts, d8 can push.

// member is one file of a tar, with its raw header.
type member struct {
	name   string
	header []byte
	data   []byte
}

// blank is a header without name, size and sum, as d8 writes it (S6.3).
const blank = "0000777\x000000000\x000000000\x00" + "SSSSSSSSSSSS" + "00000000000\x00" + "CCCCCC\x00 " + "0"

// readTar reads a tar by hand, for a library would forgive what d8 does not
// write: other headers, directories, padding.
func readTar(t *testing.T, name string, text []byte) []member {
	t.Helper()
	var out []member
	long := ""
	for at := 0; ; {
		if at+512 > len(text) {
			t.Fatalf("%s ends at %d without two blocks of zeros", name, at)
		}
		header := text[at : at+512]
		if bytes.Equal(header, make([]byte, 512)) {
			if rest := text[at:]; !bytes.Equal(rest, make([]byte, 1024)) {
				t.Errorf("%s: %d bytes follow the last file, want two blocks of zeros", name, len(rest))
			}
			return out
		}
		size, err := strconv.ParseInt(strings.TrimRight(string(header[124:135]), "\x00"), 8, 64)
		if err != nil {
			t.Fatalf("%s: header at %d: %v", name, at, err)
		}
		m := member{name: strings.TrimRight(string(header[:100]), "\x00"), header: header, data: text[at+512 : at+512+int(size)]}
		at += 512 + (int(size)+511)/512*512
		if header[156] == 'L' {
			if m.name != "././@LongLink" {
				t.Errorf("%s: a long name is called %q", name, m.name)
			}
			long = strings.TrimRight(string(m.data), "\x00")
			continue
		}
		if long != "" {
			if m.name != long[:100] || len(long) <= 100 {
				t.Errorf("%s: the long name %q belongs to %q", name, long, m.name)
			}
			m.name, long = long, ""
		}
		out = append(out, m)
	}
}

// wrongHeader tells what is not as S6.3 has it.
func (m member) wrongHeader() string {
	fields := slices.Clone(m.header[100:157])
	copy(fields[24:36], "SSSSSSSSSSSS")
	copy(fields[48:54], "CCCCCC")
	rest := m.header[157:]
	want := make([]byte, len(rest))
	copy(want[257-157:], "ustar  \x00")
	copy(want[329-157:], "0000000\x000000000\x00")
	if string(fields) != blank || !bytes.Equal(rest, want) {
		return fmt.Sprintf("%q %q", fields, rest)
	}
	return ""
}

// walkLess orders names as a walk through directories meets them.
func walkLess(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

// checkedLayout is what d8 makes of a layout: digest by short tag.
type checkedLayout struct {
	tags  map[string]string
	order []string // short tags as listed
}

// index is index.json, and a manifest or index beside it.
type index struct {
	SchemaVersion int
	MediaType     string
	Manifests     []descriptor
	Config        *descriptor
	Layers        []descriptor
}

type descriptor struct {
	MediaType   string
	Size        int64
	Digest      string
	Annotations map[string]string
	Platform    map[string]any
}

var (
	tagForm      = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	pathForm     = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	sourceForm   = regexp.MustCompile(`^[a-z0-9.-]+(:[0-9]+)?/[a-z0-9._/-]+(:[A-Za-z0-9_][A-Za-z0-9._-]*|@sha256:[0-9a-f]{64})$`)
	archiveForm  = regexp.MustCompile(`^(platform|installer|security|package-versions|deckhouse-cli|(module|package|plugin)-[a-z0-9._-]+)$`)
	chunkForm    = regexp.MustCompile(`^(.+)\.tar\.(\d{4,})\.chunk$`)
	indexTypes   = []string{"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
	layoutKeys   = regexp.MustCompile(`(?s)^\{\s*"schemaVersion": 2,\s*"mediaType": "application/vnd\.oci\.image\.index\.v1\+json",\s*"manifests": \[`)
	annotationID = "io.deckhouse.image.short_tag"
	annotationIn = "org.opencontainers.image.ref.name"
)

// archives reads the archives of a bundle, chunks joined, by name; limit is the
// size of chunks, 0 for none (S6.6).
func archives(t *testing.T, dir string, limit int) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	chunks := map[string]int{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		m := chunkForm.FindStringSubmatch(e.Name())
		switch {
		case e.IsDir():
			t.Errorf("%s is a directory", e.Name())
		case err != nil:
			t.Fatal(err)
		case m != nil: // in their order: names of one length sort by number
			if before := len(out[m[1]]); chunks[m[1]] > 0 && before != chunks[m[1]]*limit {
				t.Errorf("the chunks before %s have %d bytes, want %d each", e.Name(), before, limit)
			}
			if want := fmt.Sprintf("%04d", chunks[m[1]]); m[2] != want {
				t.Errorf("%s: want number %s", e.Name(), want)
			}
			if len(text) == 0 || len(text) > limit {
				t.Errorf("%s has %d bytes, the limit is %d", e.Name(), len(text), limit)
			}
			out[m[1]] = append(out[m[1]], text...)
			chunks[m[1]]++
		case strings.HasSuffix(e.Name(), ".tar"):
			out[strings.TrimSuffix(e.Name(), ".tar")] = text
			if limit > 0 {
				t.Errorf("%s is not cut into chunks", e.Name())
			}
		case !slices.Contains([]string{"bundle.json", "deckhousereleases.yaml"}, e.Name()) && !strings.HasSuffix(e.Name(), ".gostsum") && !strings.HasSuffix(e.Name(), ".txt"):
			t.Errorf("%s does not belong into a bundle", e.Name())
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s holds no archives", dir)
	}
	return out
}

// checkArchive checks one archive and returns its layouts by path. By d8 itself
// is laxer where the rule book names what ferry does better.
func checkArchive(t *testing.T, name string, text []byte, byD8 bool) map[string]checkedLayout {
	t.Helper()
	if !archiveForm.MatchString(name) {
		t.Errorf("%s is not the name of an archive (S6.1)", name)
	}
	members := map[string][]byte{}
	previous := ""
	for _, m := range readTar(t, name, text) {
		if wrong := m.wrongHeader(); wrong != "" {
			t.Errorf("%s: %s has the header %s", name, m.name, wrong)
		}
		if path.Clean(m.name) != m.name || path.IsAbs(m.name) || strings.HasPrefix(m.name, "..") || strings.Contains(m.name, `\`) || strings.HasPrefix(m.name, "tmp/") {
			t.Errorf("%s: the name %q", name, m.name)
		}
		if _, twice := members[m.name]; twice {
			t.Errorf("%s: %s stands twice", name, m.name)
		}
		// package-versions of d8 is several walks.
		if previous != "" && walkLess(previous, m.name) >= 0 && !(byD8 && name == "package-versions") {
			t.Errorf("%s: %s stands behind %s", name, m.name, previous)
		}
		previous = m.name
		members[m.name] = m.data
	}
	layouts := map[string]checkedLayout{}
	for file := range members {
		if dir, ok := strings.CutSuffix("/"+file, "/index.json"); ok {
			layouts[strings.TrimPrefix(dir, "/")] = checkLayout(t, name, strings.TrimPrefix(dir+"/", "/"), members, byD8)
		}
	}
	used := map[string]bool{}
	for dir := range layouts {
		used[path.Join(dir, "index.json")], used[path.Join(dir, "oci-layout")] = true, true
	}
	for file := range members {
		if !used[file] && !strings.Contains(file, "blobs/sha256/") {
			t.Errorf("%s: %s belongs to no layout", name, file)
		}
	}
	return layouts
}

// checkLayout checks the layout at prefix ("install/"), alone: nothing that it
// needs may stand elsewhere (S6.2.3).
func checkLayout(t *testing.T, archive, prefix string, members map[string][]byte, byD8 bool) checkedLayout {
	t.Helper()
	where := archive + ": " + prefix
	if got := string(members[prefix+"oci-layout"]); got != "{\n    \"imageLayoutVersion\": \"1.0.0\"\n}" {
		t.Errorf("%soci-layout is %q", where, got)
	}
	if prefix != "" && !pathForm.MatchString(strings.TrimSuffix(prefix, "/")) {
		t.Errorf("%s is not a repository's path", where)
	}
	text := members[prefix+"index.json"]
	if !byD8 && !layoutKeys.Match(text) {
		t.Errorf("%sindex.json begins with %.150q", where, text)
	}
	var list index
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatalf("%sindex.json: %v", where, err)
	}
	blobs := map[string][]byte{}
	for file, data := range members {
		if name, ok := strings.CutPrefix(file, prefix+"blobs/sha256/"); ok {
			if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != name {
				t.Errorf("%sblobs/sha256/%s does not hash to its name", where, name)
			}
			blobs["sha256:"+name] = data
		}
	}
	out := checkedLayout{tags: map[string]string{}}
	needed := map[string]bool{}
	previous := ""
	for _, d := range list.Manifests {
		tag, ref := d.Annotations[annotationID], d.Annotations[annotationIn]
		switch _, twice := out.tags[tag]; {
		case !tagForm.MatchString(tag):
			t.Errorf("%s: %q is not a tag", where, tag)
		case twice && !byD8:
			t.Errorf("%s: tag %s stands twice", where, tag)
		case len(d.Annotations) != 2:
			t.Errorf("%s: %s has annotations %v", where, tag, d.Annotations)
		case !sourceForm.MatchString(ref) && !byD8:
			t.Errorf("%s: %s comes from %q, which is no reference", where, tag, ref)
		case ref+" "+tag < previous && !byD8:
			t.Errorf("%s: %s stands behind %s", where, ref, previous)
		case strings.HasSuffix(ref, "@"+d.Digest) && tag != strings.TrimPrefix(d.Digest, "sha256:"):
			t.Errorf("%s: the image by digest %s has the tag %s (S6.5.4)", where, ref, tag)
		}
		previous = ref + " " + tag
		isIndex := slices.Contains(indexTypes, d.MediaType)
		if isIndex != (d.Platform == nil) || !isIndex && fmt.Sprint(d.Platform) != "map[architecture: os:]" {
			t.Errorf("%s: %s of type %s has platform %v (S6.5.3)", where, tag, d.MediaType, d.Platform)
		}
		out.tags[tag] = d.Digest // the last one counts (S7.6.1)
		out.order = append(out.order, tag)
		require(t, where, d, blobs, needed)
	}
	for digest := range blobs {
		if !needed[digest] && !byD8 {
			t.Errorf("%sblobs: nothing needs %s", where, digest)
		}
	}
	return out
}

// require marks d and all below it, which must be there with their sizes.
func require(t *testing.T, where string, d descriptor, blobs map[string][]byte, needed map[string]bool) {
	t.Helper()
	data, ok := blobs[d.Digest]
	if !ok || int64(len(data)) != d.Size {
		t.Errorf("%s: %s is missing, or has %d bytes and not %d", where, d.Digest, len(data), d.Size)
		return
	}
	if needed[d.Digest] {
		return
	}
	needed[d.Digest] = true
	var m index
	if !strings.HasSuffix(d.MediaType, "+json") || json.Unmarshal(data, &m) != nil || m.SchemaVersion != 2 {
		return
	}
	if m.MediaType != "" && m.MediaType != d.MediaType {
		t.Errorf("%s: %s is %s, its descriptor says %s", where, d.Digest, m.MediaType, d.MediaType)
	}
	for _, child := range slices.Concat(m.Manifests, m.Layers) {
		require(t, where, child, blobs, needed)
	}
	if m.Config != nil {
		require(t, where, *m.Config, blobs, needed)
	}
}

// always are the layouts that an archive has whatever landed there (S6.2.2).
func always(archive string) []string {
	family, name, _ := strings.Cut(archive, "-")
	switch {
	case archive == "platform":
		return []string{"", "install", "install-standalone", "release-channel"}
	case archive == "security":
		return []string{"security/trivy-bdu", "security/trivy-checks", "security/trivy-db", "security/trivy-java-db"}
	case family == "module":
		return []string{"modules/" + name, "modules/" + name + "/release"}
	case family == "package" && name != "versions":
		return []string{"packages/" + name, "packages/" + name + "/version"}
	}
	return nil
}

// belongs reports whether an archive may hold a layout (S6.2).
func belongs(archive, layout string) bool {
	family, name, _ := strings.Cut(archive, "-")
	below := func(root string) bool { return layout == root || strings.HasPrefix(layout, root+"/") }
	switch {
	case archive == "platform", archive == "security":
		return slices.Contains(always(archive), layout)
	case archive == "installer", archive == "deckhouse-cli":
		return layout == archive
	case archive == "package-versions":
		return below("packages") && strings.HasSuffix(layout, "/version")
	case family == "plugin":
		return layout == "deckhouse-cli/plugins/"+name
	case family == "module":
		return layout == "modules/"+name || layout == "modules/"+name+"/release" || below("modules/"+name+"/extra")
	case family == "package":
		return layout == "packages/"+name || layout == "packages/"+name+"/version" || below("packages/"+name+"/extra")
	}
	return false
}

// checkBundle checks all archives of a bundle, and returns the digest of every
// tag as a push of d8 would write it.
func checkBundle(t *testing.T, dir string, limit int, byD8 bool) map[string]string {
	t.Helper()
	tags := map[string]string{}
	for name, text := range archives(t, dir, limit) {
		layouts := checkArchive(t, name, text, byD8)
		for _, want := range always(name) {
			if _, ok := layouts[want]; !ok {
				t.Errorf("%s has no layout %q", name, want)
			}
		}
		images := 0
		for at, l := range layouts {
			if !belongs(name, at) {
				t.Errorf("%s holds the layout %q", name, at)
			}
			images += len(l.order)
			for tag, digest := range l.tags {
				full := at + ":" + tag
				if other, ok := tags[full]; ok && other != digest && !byD8 {
					t.Errorf("%s: two archives give this tag to %s and to %s", full, other, digest)
				}
				tags[full] = digest
			}
		}
		if images == 0 {
			t.Errorf("%s holds no image", name)
		}
		// Without a name below modules/NAME d8 would move everything there (S7.4.4).
		if module, ok := strings.CutPrefix(name, "module-"); ok && !bytes.Contains(text, []byte("modules/"+module)) {
			t.Errorf("d8 would take %s for an old archive", name)
		}
	}
	return tags
}

// Every archive that ferry writes follows S6, and S7.10, read by the rules alone:
// S6.1, S6.2.1, S6.2.2, S6.2.3, S6.3, S6.4.1, S6.4.2, S6.4.4, S6.5.1, S6.5.2,
// S6.5.3, S6.5.4, S6.5.5, S6.5.6, S6.6.1, S6.6.2, S5.6.12, S9 rows 18, 25, 26, 53,
// 71, 81 and 86. References name a registry with a port.
func TestArchivesFollowTheRules(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Default())
	pull := func(t *testing.T, source string, flags ...string) string {
		t.Helper()
		disk := t.TempDir()
		run(t, "", "ferry-pull", append([]string{disk, "--source", source + "/deckhouse/ee", "--insecure"}, flags...)...)
		return disk
	}
	t.Run("default", func(t *testing.T) {
		tags := checkBundle(t, pull(t, src.Host), 0, false)
		for name, digest := range made.Expected {
			if tags[name] != string(digest) {
				t.Errorf("%s is %s in the archives, want %s", name, tags[name], digest)
			}
		}
		for _, channel := range []string{"install:stable", "install:alpha", "release-channel:stable"} {
			if tags[channel] == "" {
				t.Errorf("%s is missing", channel)
			}
		}
	})
	t.Run("chunks", func(t *testing.T) {
		checkBundle(t, pull(t, src.Host, "--images-bundle-chunk-size", "40000B"), 40000, false)
	})
	t.Run("modules elsewhere", func(t *testing.T) { // S6.2.1
		opts := edition.Tiny()
		other, _ := source(t, opts)
		middle := pull(t, other.Host)
		run(t, "", "ferry-push", middle, other.Host+"/mirror/fe", "--insecure", "--modules-path-suffix", "my/mods")
		disk := t.TempDir()
		run(t, "", "ferry-pull", disk, "--source", other.Host+"/mirror/fe", "--insecure", "--modules-path-suffix", "my/mods")
		if tags := checkBundle(t, disk, 0, false); tags["modules/mod-00/release:stable"] == "" {
			t.Error("the module is not in modules/mod-00")
		}
	})
	for _, name := range goldenCases {
		t.Run(name, func(t *testing.T) {
			flags, err := os.ReadFile(filepath.Join("testdata", "golden", name, "flags.txt"))
			if err != nil {
				t.Fatal(err)
			}
			checkBundle(t, pull(t, goldenSource(t), strings.Fields(string(flags))...), 0, false)
		})
	}
}

// The reader above is right about d8: it accepts d8's own archives, and makes of
// them what d8's push did.
func TestTheRulesAreThoseOfD8(t *testing.T) {
	t.Parallel()
	for _, name := range goldenCases {
		t.Run(name, func(t *testing.T) {
			want, _ := recorded(t, name)
			got := checkBundle(t, filepath.Join("testdata", "golden", name), 0, true)
			for tag, digest := range want {
				if strings.HasPrefix(tag, "packages/") && strings.Contains(tag, "/version:") {
					continue // which archive wins is d8's unstable sort (S9 row 70)
				}
				if got[tag] != string(digest) {
					t.Errorf("%s is %s in the archives, and d8 pushed %s", tag, got[tag], digest)
				}
			}
		})
	}
}
