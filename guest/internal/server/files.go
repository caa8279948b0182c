package server

func (s *server) fileRoutes() map[string]handler { return map[string]handler{} }
