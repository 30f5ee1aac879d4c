package fault

import "slices"

// Cause is what often stands behind a failure, more exact than its [Kind], with
// what to tell the person who meets it (S2.6). A kind says what a script does
// next, a cause helps a person to find out why. The texts hold for every
// registry, whether it is read from or written to; what depends on the case at
// hand, such as the name of a host, is in the error and its hint.
type Cause struct {
	name           string
	likely, advice []string
}

// NewCause makes a cause: its name, as it stands in reports and JSON logs; what
// it likely comes from; and what to do about it. Each text is one sentence
// without a full stop. Only causes that a package alone can know are made
// elsewhere than in this file.
func NewCause(name string, likely, advice []string) *Cause {
	return &Cause{name: name, likely: likely, advice: advice}
}

// Name identifies the cause: "name-lookup". It never changes its meaning.
func (c *Cause) Name() string { return c.name }

// Likely tells what the failure likely comes from, the likeliest first.
func (c *Cause) Likely() []string { return slices.Clone(c.likely) }

// Advice tells what to do about it.
func (c *Cause) Advice() []string { return slices.Clone(c.advice) }

// The causes that registries, networks and disks have.
var (
	// ConnectionCut is an answer or a body that ended before its end.
	ConnectionCut = NewCause("connection-cut",
		[]string{
			"the network, or a proxy or load balancer on the way, cut the connection",
			"the registry was restarted, or ran out of memory or disk",
		},
		[]string{
			"run the same command again; fetch goes on within the blob, publish with the blobs that are missing",
			"if it breaks at the same place each time, raise time-outs and size limits of the proxy in front of the registry",
		})
	// Certificate is a TLS handshake in which the other side is not trusted, or
	// does not agree.
	Certificate = NewCause("certificate",
		[]string{
			"the certificate is signed by an authority that this machine does not know, such as a company's own",
			"the certificate has expired, is for another name, or this machine's clock is wrong",
			"a proxy opens TLS connections and shows a certificate of its own",
		},
		[]string{
			"put the authority's certificate into a PEM file and name it in SSL_CERT_FILE",
			"only where the network is trusted: --tls-skip-verify accepts any certificate",
		})
	// NoTLS is a server that answers in plain HTTP where TLS is expected.
	NoTLS = NewCause("no-tls",
		[]string{"the registry speaks plain HTTP on this port", "the port belongs to another service"},
		[]string{"check the port; --insecure speaks plain HTTP, where that is meant"})
	// Unauthorized is 401.
	Unauthorized = NewCause("unauthorized",
		[]string{
			"no login was given, or user, password or licence key is wrong or has expired",
			"some registries answer so for a project or repository that does not exist",
		},
		[]string{
			"give a login: --help lists the flags and variables for it; without one, docker's config.json is asked",
			"check that the path exists and the user may see it",
		})
	// Forbidden is 403.
	Forbidden = NewCause("forbidden",
		[]string{
			"the user is known, but has no right to this repository: to read it, or to write there",
			"the licence does not cover this edition or module",
			"a firewall or proxy in front of the registry refuses the request",
		},
		[]string{"let the registry's administrator give the right, or use another login or path"})
	// TooManyRequests is 429.
	TooManyRequests = NewCause("too-many-requests",
		[]string{"the registry limits requests by user or address, and others may share the address", "nobody is logged in, and the limit is lower then"},
		[]string{"run the same command again later, with a smaller --parallel", "log in, if that was left out"})
	// ServerError is 5xx.
	ServerError = NewCause("server-error",
		[]string{"the registry, its storage or the proxy in front of it is overloaded, restarting, or out of disk"},
		[]string{"run the same command again in a while", "if it stays, look into the registry's log"})
	// NameLookup is a host name that has no address.
	NameLookup = NewCause("name-lookup",
		[]string{"the host name is misspelt", "the name server does not answer, or does not know the name in this network"},
		[]string{"compare the host with the registry's address, and look the name up with getent hosts NAME", "if a proxy leads there, set HTTPS_PROXY"})
	// Timeout is silence, or a deadline that expired.
	Timeout = NewCause("timeout",
		[]string{
			"the registry is slow, or a firewall drops its packets without a word",
			"--timeout or D8_MIRROR_TIMEOUT is shorter than what a large blob needs",
		},
		[]string{"run the same command again; raise --idle-timeout, or --timeout if it is set", "check that host and port can be reached from here, by a proxy if need be"})
	// Unreachable is a host that takes no connection.
	Unreachable = NewCause("unreachable",
		[]string{"nothing listens at this address and port", "there is no route to the host, or a firewall refuses it", "a proxy is needed, or the one that is set is wrong"},
		[]string{"check host, port and HTTPS_PROXY, HTTP_PROXY and NO_PROXY"})
	// DiskFull is a file system or quota without space.
	DiskFull = NewCause("disk-full",
		[]string{"the file system is full, in bytes or in inodes", "the user's quota is used up"},
		[]string{"free space, or choose another directory, and run the same command again"})
	// Permission is a file or directory that this user may not use.
	Permission = NewCause("permission",
		[]string{"the file or directory belongs to another user", "a security policy (SELinux, AppArmor) or mount option forbids it"},
		[]string{"look at its owner and rights with ls -ld, and run as a user who may use it, or choose another directory"})
	// ImageNotFound is a tag or digest that a repository does not have.
	ImageNotFound = NewCause("image-not-found",
		[]string{
			"the tag or digest does not exist there, or was deleted meanwhile",
			"the whole repository does not exist: the path is misspelt, or lacks or has a segment too many",
		},
		[]string{"compare the reference with the tags that the registry lists", "if it was there when the documents were made, make them again"})
	// RepositoryNotFound is a repository that a registry does not know.
	RepositoryNotFound = NewCause("repository-not-found",
		[]string{
			"the path is misspelt, or lacks or has a segment too many",
			"it is a target, and the registry makes no projects or repositories by itself",
		},
		[]string{"compare the path with the registry's own list", "if it is a target, create the project or repository first"})
	// EmptyConstraint is NAME@ with nothing behind it.
	EmptyConstraint = NewCause("empty-constraint",
		[]string{"the shell took an unquoted > or < for a redirection", "the variable behind @ is empty"},
		[]string{"quote the whole value, as in 'NAME@>=1.2.0', and look for a file with a name such as =1.2.0 that the shell has made"})
	// PathConstraint is a file path where a constraint is expected.
	PathConstraint = NewCause("path-like-constraint",
		[]string{"the shell took an unquoted > or < for a redirection, and the next word became the value"},
		[]string{"quote the constraint, as in '>=1.64', and look for a file with a name such as =1.64 that the shell has made"})
	// ArtifactRefused is a manifest with other types than an image has, at a
	// registry that takes only images (S1.9.1).
	ArtifactRefused = NewCause("artifact-refused",
		[]string{"the registry takes only the media types of images, and this is an OCI artifact, such as a vulnerability database; Quay does so by default"},
		[]string{
			"Quay: set FEATURE_GENERAL_OCI_SUPPORT: true, list the types under ALLOWED_OCI_ARTIFACT_TYPES in its config.yaml, and restart it",
			"or leave what cannot be stored out of the bundle",
		})
	// ManifestRefused is a manifest that a registry finds invalid, or of a type that
	// it does not take. What it dislikes in this one may stand in the hint.
	ManifestRefused = NewCause("manifest-refused",
		[]string{
			"the registry does not take manifests of this type: some know only Docker's, some only OCI's",
			"it wants more than the specification does, such as a config with rootfs and history, or an index without repetitions",
		},
		[]string{
			"let the registry take such manifests, or use a newer release of it; nothing is converted here, for digests and signatures would not fit any more",
			"or leave what cannot be stored out of the bundle",
		})
	// TargetFull is a registry that has no room for what is sent.
	TargetFull = NewCause("target-full",
		[]string{"the quota of the project or of the user is used up", "the registry's storage is full"},
		[]string{"raise the quota or make room, and run the same command again; it sends what is missing"})
	// TagImmutable is a tag that leads elsewhere and may not be changed.
	TagImmutable = NewCause("tag-immutable",
		[]string{"the registry has a rule that tags are written once, for all or for those that fit a pattern, such as signatures"},
		[]string{"if the tag should lead to what is published now, lift the rule for it or delete it there, and run the same command again"})
	// BodyTooLarge is 413.
	BodyTooLarge = NewCause("body-too-large",
		[]string{"a proxy in front of the registry limits the size of request bodies (nginx: client_max_body_size)", "the registry has a limit of its own for blobs or projects"},
		[]string{"raise the limit at the proxy or registry, or switch it off for this path"})
)

// Because says what stands behind the error.
func (e *Error) Because(c *Cause) *Error {
	e.cause = c
	return e
}

// CauseOf returns the outermost cause that err carries, or nil.
func CauseOf(err error) *Cause {
	for e := range layers(err) {
		if e.cause != nil {
			return e.cause
		}
	}
	return nil
}
