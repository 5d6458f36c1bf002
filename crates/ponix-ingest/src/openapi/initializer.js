// Starts the page at /docs, in place of Swagger UI's own file of this name.

// It puts every text into quotes where "json" is in the type, also lines of JSON, which are then none.
const linesAsTheyAre = {
  afterLoad() {
    const sample = this.fn.getSampleSchema;
    this.fn.getSampleSchema = (schema, type, ...rest) =>
      sample(schema, /ndjson|jsonl/.test(type) ? "text/plain" : type, ...rest);
  },
};

window.onload = () => {
  window.ui = SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
    plugins: [SwaggerUIBundle.plugins.DownloadUrl, linesAsTheyAre],
  });
};
