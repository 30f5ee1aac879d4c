package tools

func skopeo() Tool {
	return Tool{
		Name: "skopeo", Way: "image by image into one layout, then tar", version: []string{"--version"}, Landed: ByTag,
		Pull: `
while read -r repo tag _; do
  skopeo --insecure-policy copy --quiet --src-tls-verify=false "docker://$SOURCE/$repo:$tag" "oci:$SCRATCH/layout:$repo:$tag"
done <"$LIST"
tar -C "$SCRATCH/layout" -cf "$BUNDLE/images.tar" .`,
		Push: `
mkdir "$SCRATCH/layout"
tar -C "$SCRATCH/layout" -xf "$BUNDLE/images.tar"
while read -r repo tag _; do
  skopeo --insecure-policy copy --quiet --dest-tls-verify=false "oci:$SCRATCH/layout:$repo:$tag" "docker://$TARGET/mirror/$repo:$tag"
done <"$LIST"`,
	}
}
