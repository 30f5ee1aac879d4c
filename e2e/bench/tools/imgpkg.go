package tools

func imgpkg() Tool {
	return Tool{
		Name: "imgpkg", Way: "one tar; all images in one repository, without tags", version: []string{"version"}, Landed: inOne,
		Pull: `
{
  printf 'apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages:\n'
  while read -r repo _ digest; do echo "- image: $SOURCE/$repo@$digest"; done <"$LIST"
} >"$SCRATCH/images.yml"
imgpkg copy --registry-insecure --registry-anon --lock "$SCRATCH/images.yml" --to-tar "$BUNDLE/images.tar"`,
		Push: `imgpkg copy --registry-insecure --registry-anon --tar "$BUNDLE/images.tar" --to-repo "$TARGET/mirror/all"`,
	}
}
