package tools

func crane() Tool {
	return Tool{
		Name: "crane", Way: "all into one layout, then tar; pushed as one index into one repository", version: []string{"version"}, Landed: inOne,
		Pull: `
mapfile -t refs < <(while read -r repo tag _; do echo "$SOURCE/$repo:$tag"; done <"$LIST")
crane pull --insecure --format=oci "${refs[@]}" "$SCRATCH/layout"
tar -C "$SCRATCH/layout" -cf "$BUNDLE/images.tar" .`,
		Push: `
mkdir "$SCRATCH/layout"
tar -C "$SCRATCH/layout" -xf "$BUNDLE/images.tar"
crane push --insecure --index "$SCRATCH/layout" "$TARGET/mirror/all:list"`,
	}
}
