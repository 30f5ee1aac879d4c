package store

const openNoFollow = 0
