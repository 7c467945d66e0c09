
(async () => {
  for (const path of ['/api/slow?ms=0', '/api/echo', '/api/echo', '/api/echo']) await fetch(path);
})();
