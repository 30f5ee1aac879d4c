package transfer

import "ferry/pkg/oci"

// Place is the repository of the target where path lands.
func (p *Publisher) Place(path string) oci.Repository {
	repo, _ := p.repository(path)
	return repo
}
