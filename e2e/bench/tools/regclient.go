package tools

func regctl() Tool {
	return Tool{
		Name: "regctl", Way: "image by image into a layout for each repository, then tar", version: []string{"version"}, Landed: ByTag,
		Pull: `
regctl registry set --skip-check --tls disabled "$SOURCE"
while read -r repo tag _; do
  regctl image copy "$SOURCE/$repo:$tag" "ocidir://$SCRATCH/layouts/$repo:$tag"
done <"$LIST"
tar -C "$SCRATCH/layouts" -cf "$BUNDLE/images.tar" .`,
		Push: `
regctl registry set --skip-check --tls disabled "$TARGET"
mkdir "$SCRATCH/layouts"
tar -C "$SCRATCH/layouts" -xf "$BUNDLE/images.tar"
while read -r repo tag _; do
  regctl image copy "ocidir://$SCRATCH/layouts/$repo:$tag" "$TARGET/mirror/$repo:$tag"
done <"$LIST"`,
	}
}

func regsync() Tool {
	return Tool{
		Name: "regsync", Way: "once, with 4 in parallel, into a layout for each repository, then tar", version: []string{"version"}, Landed: ByTag,
		Pull: `
{
  printf 'version: 1\ndefaults: {parallel: 4}\ncreds: [{registry: "%s", tls: disabled}]\nsync:\n' "$SOURCE"
  while read -r repo tag _; do
    echo "- {type: image, source: \"$SOURCE/$repo:$tag\", target: \"ocidir://$SCRATCH/layouts/$repo:$tag\"}"
  done <"$LIST"
} >"$SCRATCH/regsync.yml"
regsync once -c "$SCRATCH/regsync.yml"
tar -C "$SCRATCH/layouts" -cf "$BUNDLE/images.tar" .`,
		Push: `
mkdir "$SCRATCH/layouts"
tar -C "$SCRATCH/layouts" -xf "$BUNDLE/images.tar"
{
  printf 'version: 1\ndefaults: {parallel: 4}\ncreds: [{registry: "%s", tls: disabled}]\nsync:\n' "$TARGET"
  while read -r repo tag _; do
    echo "- {type: image, source: \"ocidir://$SCRATCH/layouts/$repo:$tag\", target: \"$TARGET/mirror/$repo:$tag\"}"
  done <"$LIST"
} >"$SCRATCH/regsync.yml"
regsync once -c "$SCRATCH/regsync.yml"`,
	}
}
