import "./index.css";
import "./files.css";
