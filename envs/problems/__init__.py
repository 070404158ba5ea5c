"""Problems made by programs, with seeds: nano's domains, and arithmetic for scripts."""
