package tools

func hauler() Tool {
	return Tool{
		Name: "hauler", Way: "a store, saved to one archive", version: []string{"version"}, Landed: ByTag,
		Pull: `
{
  printf 'apiVersion: content.hauler.cattle.io/v1\nkind: Images\nmetadata: {name: all}\nspec:\n  images:\n'
  while read -r repo tag _; do echo "  - name: $SOURCE/$repo:$tag"; done <"$LIST"
} >"$SCRATCH/images.yml"
hauler store sync --store "$SCRATCH/store" --filename "$SCRATCH/images.yml"
hauler store save --store "$SCRATCH/store" --filename "$BUNDLE/images.tar.zst"`,
		Push: `
hauler store load --store "$SCRATCH/store" --filename "$BUNDLE/images.tar.zst"
hauler store copy --store "$SCRATCH/store" --plain-http "registry://$TARGET/mirror"`,
	}
}

// imageSet is the list as oc-mirror reads it, on both sides.
const imageSet = `
{
  printf 'kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  additionalImages:\n'
  while read -r repo tag _; do echo "  - name: $SOURCE/$repo:$tag"; done <"$LIST"
} >"$SCRATCH/images.yml"
`

func ocMirror() Tool {
	return Tool{
		Name: "oc-mirror", Way: "mirror to disk, disk to mirror", version: []string{"version"}, Landed: ByTag,
		Pull: imageSet + `oc-mirror --v2 --cache-dir "$SCRATCH" --src-tls-verify=false -c "$SCRATCH/images.yml" "file://$BUNDLE"`,
		Push: imageSet + `oc-mirror --v2 --cache-dir "$SCRATCH" --dest-tls-verify=false -c "$SCRATCH/images.yml" --from "file://$BUNDLE" "docker://$TARGET/mirror"`,
	}
}

func zarf() Tool {
	return Tool{
		Name: "zarf", Way: "one package", version: []string{"version"}, Landed: ByTag,
		Pull: `
{
  printf 'kind: ZarfPackageConfig\nmetadata: {name: all}\ncomponents:\n- name: all\n  required: true\n  images:\n'
  while read -r repo tag _; do echo "  - $SOURCE/$repo:$tag"; done <"$LIST"
} >"$SCRATCH/zarf.yaml"
zarf package create "$SCRATCH" --confirm --plain-http --skip-sbom --output "$BUNDLE"`,
		Push: `zarf package mirror-resources "$BUNDLE"/zarf-package-*.tar* --confirm --plain-http --no-img-checksum --registry-url "$TARGET/mirror"`,
	}
}

func d8() Tool {
	return Tool{
		Name: "d8", Way: "mirror pull, mirror push", Edition: "deckhouse", version: []string{"--version"}, Landed: ByTag,
		Pull: `d8 mirror pull --source "$SOURCE/deckhouse/ee" --insecure "$BUNDLE"`,
		Push: `d8 mirror push --insecure "$BUNDLE" "$TARGET/mirror"`,
	}
}
