// The page: builds its parts and connects them.
