package bundle

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
)

func TestSignatureFile(t *testing.T) {
	dir := t.TempDir()
	_, err := ReadSignature(dir)
	wantFault(t, err, fault.NotFound)
	if err := WriteSignature(dir, []byte("one")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "bundle.json.sig")
	if text, err := ReadSignature(dir); err != nil || string(text) != "one" || string(readFile(t, path)) != "one" {
		t.Errorf("read %q, %v", text, err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteSignature(dir, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the same signature was written again: %v", err)
	}
	if err := WriteSignature(dir, []byte("two")); err != nil {
		t.Fatal(err)
	}
	if text, err := ReadSignature(dir); err != nil || string(text) != "two" {
		t.Errorf("read %q, %v", text, err)
	}
	// An empty one is there, and wrong, which is for its reader to say (N22).
	writeFile(t, path, nil)
	if text, err := ReadSignature(dir); err != nil || len(text) > 0 {
		t.Errorf("read %q, %v", text, err)
	}
	// What is no file is not missing either (B6).
	for _, make := range []func() error{
		func() error { return os.Symlink("/etc/passwd", path) },
		func() error { return os.Symlink("nowhere", path) },
		func() error { return os.Mkdir(path, 0o755) },
	} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := make(); err != nil {
			t.Fatal(err)
		}
		_, err := ReadSignature(dir)
		wantFault(t, err, fault.Damaged, SignatureName)
	}
}

// No document is ever written beside the signature of an older one: it goes when
// the directory is begun, and when one came meanwhile (N22).
func TestOldSignaturesGo(t *testing.T) {
	contents, content := sample(t)
	for name, write := range map[string]func(dir string) error{
		"archives": func(dir string) error {
			_, err := Write(t.Context(), dir, contents, content, Options{})
			return err
		},
		"layouts": func(dir string) error {
			_, err := WriteLayouts(t.Context(), dir, contents, content, Options{})
			return err
		},
		"a draft": func(dir string) error {
			d, err := OpenDraft(t.Context(), dir, contents, nil, Options{})
			if err == nil {
				err = d.Close()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, filepath.Join(dir, SignatureName), []byte("old"))
			if err := write(dir); err != nil {
				t.Fatal(err)
			}
			if slices.Contains(fileNames(t, dir), SignatureName) {
				t.Error("an unfinished directory has a signature")
			}
		})
	}
	t.Run("finish", func(t *testing.T) {
		dir := t.TempDir()
		archives, err := Write(t.Context(), dir, contents, content, Options{})
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, SignatureName), []byte("old"))
		doc := finish(t, dir, contents, archives)
		if slices.Contains(fileNames(t, dir), SignatureName) {
			t.Error("the new document stands beside a signature that is not its own")
		}
		// A finished and signed directory is verified as any other.
		if err := WriteSignature(dir, []byte("new")); err != nil {
			t.Fatal(err)
		}
		if err := Verify(t.Context(), dir, doc, nil); err != nil {
			t.Error(err)
		}
	})
}

// A text is handed over as it is, also where it is no document: who proves it
// has to do so before it is decoded.
func TestReadTextBelievesNothing(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, DocumentName), []byte("{no document"))
	text, err := ReadText(dir)
	if err != nil || string(text) != "{no document" {
		t.Errorf("read %q, %v", text, err)
	}
	_, err = DecodeDocument(dir, text)
	wantFault(t, err, fault.Damaged, DocumentName)
	if SignatureName != DocumentName+contract.SignatureSuffix {
		t.Errorf("the signature of %s is %s", DocumentName, SignatureName)
	}
}
