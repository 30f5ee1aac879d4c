// Package contract owns the documents that the stages exchange.
//
// Each stage reads one document and writes one:
//
//	discover ─Catalog─► select ─Selection─► fetch ─Inventory─► pack ─Bundle─►║
//	║─► unpack ─Inventory─► publish ─Receipt
//
// fetch can stop at a Plan and accept one; every stage can write a Report,
// select an Explanation of most documents, and publish a Target, which says what
// a registry can do, to pack and publish. All share one envelope ([Document]): API version, kind, metadata, spec.
//
// Reading is strict (see [Decode]): behind an air gap nobody can be asked what
// a dropped field meant. Writing is canonical (see [Encode]): same content, same
// bytes, one list element a line, so that diff and grep work and the digest of
// the text names the document: sha256sum on the file gives it.
//
// To add a field: add it to the spec's struct with a json tag and a comment,
// extend Validate if it can be wrong and Normalize if it is a list, add it to the
// example in schemas/v1alpha1/examples, and run "make generate" for the schema.
//
// The package imports the standard library and pkg/oci, nothing else.
package contract

import "ferry/pkg/oci"

// APIVersion is the version of all documents written by this build, and the
// only one read.
const APIVersion = "ferry/v1alpha1"

// Kind names a document.
type Kind string

// The kinds, in the order of the pipeline.
const (
	KindCatalog   Kind = "Catalog"
	KindSelection Kind = "Selection"
	KindPlan      Kind = "Plan"
	KindInventory Kind = "Inventory"
	KindBundle    Kind = "Bundle"
	KindReceipt   Kind = "Receipt"
	KindReport    Kind = "Report"
	// KindExplanation stands beside the pipeline.
	KindExplanation Kind = "Explanation"
	// KindTarget, too: what a registry can do.
	KindTarget Kind = "Target"
)

// Spec is the body of a document.
type Spec interface {
	// Kind is the document's kind.
	Kind() Kind
	// Normalize sorts what has no order of its own and replaces nil lists
	// by empty ones, so that equal content has equal bytes.
	Normalize()
	// Validate tells the first thing that is wrong with a normalized spec.
	Validate() error
}

// Document is the envelope around a spec.
type Document[S any] struct {
	APIVersion string   `json:"apiVersion"`
	Kind       Kind     `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       S        `json:"spec"`
}

// Metadata says where a document comes from. It holds no time, host name, path
// or secret: packing the same Selection twice gives identical bytes.
type Metadata struct {
	// Generator is the program and its version: "ferry-fetch 0.1.0".
	Generator string `json:"generator"`
	// Inputs are the documents, and the options that shape the result
	// (kind "Options"), that this one was made from.
	Inputs []Input `json:"inputs"`
}

// KindOptions is the kind of an [Input] that stands for command-line options.
const KindOptions Kind = "Options"

// Input names a document, or options, by the digest of the canonical text.
type Input struct {
	Kind   Kind       `json:"kind"`
	Digest oci.Digest `json:"digest"`
}

// The documents.
type (
	// Catalog says what the source offers.
	Catalog = Document[CatalogSpec]
	// Selection says which images are wanted, where each lands and why.
	Selection = Document[SelectionSpec]
	// Plan is a Selection closed over links and indexes, locked by digest.
	Plan = Document[PlanSpec]
	// Inventory is a Plan whose content is present and verified.
	Inventory = Document[InventorySpec]
	// Bundle says which archive files hold what.
	Bundle = Document[BundleSpec]
	// Receipt says what stands at the target, read back from it.
	Receipt = Document[ReceiptSpec]
	// Report says how a stage ended, item by item.
	Report = Document[ReportSpec]
	// Explanation says why images are carried or not.
	Explanation = Document[ExplanationSpec]
	// Target says what a registry can do.
	Target = Document[TargetSpec]
)
