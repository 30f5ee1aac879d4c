// Package signature signs documents, and tells who signed one.
//
// A signature covers the exact bytes of a document's file, is made with an
// Ed25519 key, and lies beside the file as text, in the form that OpenSSH gives
// to signatures of files (PROTOCOL.sshsig in its sources; namespace "ferry",
// hash sha512). So nobody needs ferry to check one:
//
//	ssh-keygen -Y verify -f allowed_signers -I NAME -n ferry -s bundle.json.sig < bundle.json
//
// A signature of the same document by the same key is always the same. It has
// no time in it, and no clock is asked when it is checked: behind the gap
// clocks are wrong, and keys are trusted by being in a file, for as long as
// they are there.
package signature

// Namespace is what a signature of ours is for: one that the same key made for
// another use, such as a commit of git, says nothing about a document.
const Namespace = "ferry"
