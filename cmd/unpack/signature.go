package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"ferry/pkg/bundle"
	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/signature"
	"ferry/pkg/stage"
	"ferry/pkg/summary"
)

// documents reads the Bundle documents of directories, and with
// --require-signature proves each one before it is decoded, on the very bytes.
type documents struct {
	session *stage.Session
	keys    *signature.PublicKeys // nil where no signature is looked at
	signers []string              // who signed, each once
}

func (f *flags) documents(s *stage.Session) (*documents, error) {
	d := &documents{session: s}
	if f.RequireSignature == "" {
		return d, nil
	}
	var err error
	d.keys, err = signature.ReadPublicKeys(f.RequireSignature)
	return d, err
}

// read returns the document of a directory and its text. Kinds: fault.NotFound
// where there is none, and none is wanted with a signature; fault.Denied where a
// signature is wanted and missing; fault.Damaged where it is wrong; fault.Local.
func (d *documents) read(dir string) (*contract.Bundle, []byte, error) {
	text, err := bundle.ReadText(dir)
	if d.keys != nil {
		err = d.prove(dir, text, err)
	}
	if err != nil {
		return nil, nil, err
	}
	doc, err := bundle.DecodeDocument(dir, text)
	return doc, text, err
}

// prove tells three things apart: a document that a trusted key signed, one
// with a wrong signature, and one without any (N22).
func (d *documents) prove(dir string, text []byte, readErr error) error {
	signed, err := bundle.ReadSignature(dir)
	missing := fault.KindOf(err) == fault.NotFound
	switch {
	case fault.KindOf(readErr) == fault.NotFound && missing:
		return cannotBeSigned(dir)
	case fault.KindOf(readErr) == fault.NotFound:
		return fault.Newf(fault.Damaged, dir, "there is a %s, but not the %s that it signs", bundle.SignatureName, bundle.DocumentName).
			Hint("copy %s from the medium", bundle.DocumentName)
	case readErr != nil:
		return readErr
	case missing:
		return unsigned(dir)
	case err != nil:
		return err
	}
	signer, err := d.keys.Verify(text, signed, filepath.Join(dir, bundle.SignatureName))
	if err != nil {
		return err
	}
	d.note(dir, signer)
	return nil
}

func (d *documents) note(dir string, signer signature.Signer) {
	d.session.Log.Info(fmt.Sprintf("%s is signed by %s", filepath.Join(dir, bundle.DocumentName), signer))
	if !slices.Contains(d.signers, signer.Fingerprint) {
		d.signers = append(d.signers, signer.Fingerprint)
	}
	d.session.Summary.Facts = []summary.Fact{{Label: "Signed by", Text: strings.Join(d.signers, ", ")}}
}

// refuseFiles refuses single archives where a signature is wanted: what is
// signed is a directory's table of contents.
func (d *documents) refuseFiles(dirs []bundle.Directory) error {
	if d.keys == nil {
		return nil
	}
	var problems []error
	for _, dir := range dirs {
		if !dir.Whole {
			problems = append(problems, fault.Newf(fault.Denied, dir.Path, "a signature is required, and single archives have none").
				Hint("name the directory, whose %s is signed", bundle.DocumentName))
		}
	}
	return errors.Join(problems...)
}

const hintWithout = "; or leave --require-signature out to take it from whoever brings it"

func unsigned(dir string) error {
	return fault.Newf(fault.Denied, dir, "a signature is required, and the bundle has none: there is no %s", bundle.SignatureName).
		Hint("look for %s where the bundle was made, and copy it too; ferry-pack --sign-key writes it%s", bundle.SignatureName, hintWithout)
}

func cannotBeSigned(dir string) error {
	return fault.Newf(fault.Denied, dir, "a signature is required, and what has no %s cannot be signed: nothing says as a whole what must be there", bundle.DocumentName).
		Hint("archives of d8 mirror become a bundle by ferry-unpack DIR | ferry-pack --sign-key KEY OTHER, on the side that trusts them%s", hintWithout)
}
