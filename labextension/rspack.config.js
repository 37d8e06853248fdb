// Compiles TypeScript by Rspack's own compiler, so that a build needs none of the packages of lint and tests.
module.exports = {
  // Numbers by the order of imports: others are made of the folder's absolute path, and a build elsewhere would differ.
  optimization: { moduleIds: "natural", chunkIds: "natural" },
  // Paths as they are named, so that a build does not depend on where node_modules really is.
  resolve: { symlinks: false, extensions: [".ts", ".tsx", ".js"] },
  module: {
    rules: [
      // Icons are texts, as JupyterLab wants them.
      { test: /\.svg$/, issuer: /\.tsx?$/, type: "asset/source" },
      {
        test: /\.tsx?$/,
        exclude: /node_modules/,
        loader: "builtin:swc-loader",
        type: "javascript/auto",
        options: {
          jsc: {
            parser: { syntax: "typescript", tsx: true },
            target: "es2022",
            transform: { react: { runtime: "automatic" } },
          },
        },
      },
    ],
  },
};
