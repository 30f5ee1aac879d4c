package tools

func oras() Tool {
	return Tool{
		Name: "oras", Way: "backup and restore, a tar for each repository", version: []string{"version"}, Landed: ByTag,
		Pull: `
cut -d ' ' -f 1 "$LIST" | sort -u | while read -r repo; do
  tags=$(awk -v repo="$repo" '$1 == repo { print $2 }' "$LIST" | paste -sd ,)
  oras backup --plain-http --no-tty --output "$BUNDLE/${repo//\//_}.tar" "$SOURCE/$repo:$tags"
done`,
		Push: `
cut -d ' ' -f 1 "$LIST" | sort -u | while read -r repo; do
  oras restore --plain-http --no-tty --input "$BUNDLE/${repo//\//_}.tar" "$TARGET/mirror/$repo"
done`,
	}
}
