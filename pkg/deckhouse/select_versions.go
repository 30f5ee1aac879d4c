package deckhouse

import (
	"slices"

	"ferry/pkg/contract"
)

const packageVersions = "package-versions"

// packageVersions wants all that the release repositories of all packages hold,
// so that a cluster can show what there is to ask for. Filters mean nothing to
// it, nor does --no-packages, and whatever is missing is left out (S5.8).
func (s *selector) packageVersions() error {
	if s.ModuleSource {
		return nil
	}
	s.fates.others(packageVersions, "no package has versions to list", "S5.8")
	names, err := s.packageNames()
	if err != nil {
		return err
	}
	owned := map[string]bool{}
	for _, im := range s.out.Images {
		owned[im.Path+":"+im.Tag] = true
	}
	wanted := false
	for _, name := range names {
		tags, err := s.releaseTags(name)
		if err != nil {
			return err
		}
		for _, tag := range tags {
			// What a package's own archive wants was chosen, and stands there
			// alone: a tag of the target has one owner (S9 row 70).
			if !owned[Packages.releasePath(name)+":"+tag] {
				s.wantListed(name, tag)
				wanted = true
			}
		}
	}
	if wanted {
		s.archive(packageVersions)
	}
	return nil
}

// packageNames are the packages whose versions are carried: all, or, where nobody
// lists them, those that are named.
func (s *selector) packageNames() ([]string, error) {
	catalogue := s.layout.Catalogue(Packages)
	if s.ProxyRegistry {
		names := s.packages.included()
		if len(names) == 0 {
			s.note(packageVersions, "a proxy registry lists no packages, so the versions of those that --include-package names are all that is carried, and it names none")
		}
		return names, nil
	}
	row, err := s.row(catalogue, false)
	if err != nil {
		return nil, err
	}
	if !row.Listed {
		s.note(packageVersions, catalogue.String()+" has no tag list, so the versions of packages are not carried")
	}
	return Names(row.Tags), nil
}

// releaseTags are the tags that are known, or said by a channel, to be in the
// release repository of a package.
func (s *selector) releaseTags(name string) ([]string, error) {
	repo := s.layout.Release(Packages, name)
	row, err := s.row(repo, false)
	if err != nil {
		return nil, err
	}
	if !row.Listed {
		s.note(packageVersions, repo.String()+" has no tag list, so its channels and their versions are all that is carried of it")
	}
	tags := slices.Clone(row.Tags)
	for _, c := range s.channels[Packages.Member(name)] {
		tags = append(tags, versionTag(c.Version, row))
	}
	slices.Sort(tags)
	return slices.Compact(tags), nil
}

func (s *selector) wantListed(name, tag string) {
	path := Packages.releasePath(name)
	s.want(contract.SelectedImage{
		Source: s.layout.Release(Packages, name).WithTag(tag).String(), Archive: packageVersions,
		Path: path, Tag: tag, Phase: Imported{}.Phase(path, tag), Optional: true, Reason: "version of package " + name,
	})
	s.announce(Packages, name)
}
