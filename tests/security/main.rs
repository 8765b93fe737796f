//! What is shown of the security of Isthmus. README.md has a row for each class of advisory and each group of bad inputs, with
//! what shows it: most stand beside the code that they are about, or in the table of traffic cases, which runs them on our
//! sidecar, on Envoy and across clusters.

mod rows;
